"""Peers: classical and boosted forecasters, each fitted on what was known at its origin."""
