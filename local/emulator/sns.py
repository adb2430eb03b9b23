"""SNS: subscriptions that are not confirmed."""

from typing import Any

from ministack.services import sns as ministack


def patch() -> None:
    """List e-mail subscriptions as PendingConfirmation: here they are never confirmed."""
    list_subscriptions = ministack._list_subscriptions_by_topic

    def listed(params: dict[str, Any]) -> Any:
        status, headers, body = list_subscriptions(params)
        topic = ministack._topics.get(ministack._p(params, "TopicArn")) or {"subscriptions": []}
        for subscription in topic["subscriptions"]:
            if subscription["protocol"].startswith("email"):
                element = f"<SubscriptionArn>{subscription['arn']}</SubscriptionArn>".encode()
                body = body.replace(element, b"<SubscriptionArn>PendingConfirmation</SubscriptionArn>")
        return status, headers, body

    ministack._list_subscriptions_by_topic = listed
