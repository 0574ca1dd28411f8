FROM k8s.gcr.io/e2e-test-images/agnhost:2.21
COPY nautilus/html/nautilus.jpg nautilus/html/data.json /
CMD ["test-webserver"]
