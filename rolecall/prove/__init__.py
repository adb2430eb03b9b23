"""Evidence for auditors: which calls AWS allows and denies with a source principal's credentials, account by account."""
