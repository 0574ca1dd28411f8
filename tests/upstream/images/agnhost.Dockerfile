FROM busybox:latest
ADD root.tar /
EXPOSE 80 8080 8081 9376
ENTRYPOINT ["/agnhost"]
CMD ["pause"]
