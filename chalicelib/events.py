PATTERN = {"source": ["aws.organizations", "aws.controltower"], "detail": {"eventName": ["CreateAccountResult"]}}
