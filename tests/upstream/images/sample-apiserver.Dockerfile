FROM busybox:latest
COPY sample-apiserver /sample-apiserver
ENTRYPOINT ["/sample-apiserver"]
