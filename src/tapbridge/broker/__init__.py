"""The broker: a small root service that lends taps to users without rights; its policy, its protocol, its client."""
