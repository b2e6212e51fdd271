"""The real Host: netlink, sysctl, processes and files of this machine."""
