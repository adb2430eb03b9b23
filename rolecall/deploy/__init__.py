"""The commands `deploy`, `undeploy` and `package`: a stage of the packaged app as a CloudFormation stack."""
