"""The store in etcd, as flannel keeps it."""
