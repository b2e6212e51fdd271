"""A LAN, hosts and guests in namespaces: for the demo, the tests and the curious."""
