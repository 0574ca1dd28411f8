FROM busybox:latest
COPY etcd /usr/local/bin/etcd
