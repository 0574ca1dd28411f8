FROM k8s.gcr.io/e2e-test-images/agnhost:2.21
COPY kitten/html/kitten.jpg kitten/html/data.json /
CMD ["test-webserver"]
