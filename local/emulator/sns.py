"""SNS: who has confirmed a subscription."""

from typing import Any

from ministack.services import sns as ministack


def mend() -> None:
    """AWS lists a subscription that nobody has confirmed as PendingConfirmation, and here nobody reads mail."""
    list_subscriptions = ministack._list_subscriptions_by_topic

    def listed(params: dict[str, Any]) -> Any:
        status, headers, body = list_subscriptions(params)
        topic = ministack._topics.get(ministack._p(params, "TopicArn")) or {"subscriptions": []}
        for subscription in topic["subscriptions"]:
            if subscription["protocol"].startswith("email"):
                told = f"<SubscriptionArn>{subscription['arn']}</SubscriptionArn>".encode()
                body = body.replace(told, b"<SubscriptionArn>PendingConfirmation</SubscriptionArn>")
        return status, headers, body

    ministack._list_subscriptions_by_topic = listed
