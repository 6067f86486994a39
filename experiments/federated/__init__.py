"""Federated training of simulated phones: local INT8 training, averages on a server."""
