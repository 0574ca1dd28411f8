FROM k8s.gcr.io/e2e-test-images/agnhost:2.21
ENTRYPOINT []
CMD ["sleep", "36000"]
