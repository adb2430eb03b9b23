"""What stands behind `make deploy` and `make undeploy`."""
