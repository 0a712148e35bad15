"""The scripts, which compose a config, call one function of `operations`, and print."""
