"""The implementation of `make deploy` and `make undeploy`."""
