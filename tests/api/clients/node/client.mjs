// The Node.js client at work: everything it sees is printed as one JSON document for the test to judge.
import * as k8s from "@kubernetes/client-node";

const [, , kubeconfig, namespace] = process.argv;
const config = new k8s.KubeConfig();
config.loadFromFile(kubeconfig);
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const found = {};
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
async function until(what, condition, ms = 20000) {
  for (const end = Date.now() + ms; Date.now() < end; await pause(50)) if (await condition()) return;
  throw new Error(`waited in vain for ${what}`);
}

// An informer: a list, then a watch that goes on from it.
const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: "app=node" });
const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list, "app=node");
const heard = (found.informer = []);
for (const event of ["add", "update", "delete"]) informer.on(event, (one) => heard.push(`${event} ${one.metadata.name}`));
let ended = false;
informer.on("error", (error) => ended || heard.push(`error ${error}`));
const labels = { app: "node" };
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "before", labels } } });
await informer.start();
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "after", labels }, data: { a: "1" } } });
await until("the second map", () => heard.includes("add after"));
const map = await core.readNamespacedConfigMap({ name: "after", namespace });
await core.replaceNamespacedConfigMap({ name: "after", namespace, body: { ...map, data: { a: "2" } } });
await until("its update", () => heard.includes("update after"));
await core.deleteNamespacedConfigMap({ name: "before", namespace });
await until("the deletion", () => heard.includes("delete before"));
found.cached = informer.list().map((one) => [one.metadata.name, one.data]);
ended = true; // stopping aborts the request, which the informer reports
await informer.stop();

// Patches of three kinds.
const template = { metadata: { labels }, spec: { containers: [{ name: "c", image: "nginx" }] } };
const body = { metadata: { name: "web" }, spec: { replicas: 2, selector: { matchLabels: labels }, template } };
const made = await apps.createNamespacedDeployment({ namespace, body });
found.created = made.metadata.creationTimestamp instanceof Date;
const patches = [
  [k8s.PatchStrategy.JsonPatch, [{ op: "replace", path: "/spec/replicas", value: 3 }]],
  [k8s.PatchStrategy.MergePatch, { metadata: { annotations: { merged: "yes" } } }],
  [k8s.PatchStrategy.StrategicMergePatch, { spec: { template: { spec: { containers: [{ name: "d", image: "busybox" }] } } } }],
];
for (const [strategy, patch] of patches) {
  const options = k8s.setHeaderOptions("Content-Type", strategy);
  await apps.patchNamespacedDeployment({ name: "web", namespace, body: patch }, options);
}
const web = await apps.readNamespacedDeployment({ name: "web", namespace });
found.patched = [web.spec.replicas, web.metadata.annotations.merged, web.spec.template.spec.containers.map((c) => c.name)];
await until("three pods", async () => (await core.listNamespacedPod({ namespace, labelSelector: "app=node" })).items.length >= 3);

// A plain watch, ended by the server.
const watched = (found.watched = []);
await new Promise((done, failed) => {
  const path = `/api/v1/namespaces/${namespace}/pods`;
  new k8s.Watch(config)
    .watch(path, { timeoutSeconds: 2 }, (type, one) => watched.push([type, one.kind]), done)
    .catch(failed);
  pause(500).then(() => core.createNamespacedPod({ namespace, body: { metadata: { name: "p" }, spec: template.spec } }));
});

// Objects of any kind, by what they say they are.
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const lease = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name: "l", namespace } };
await objects.create({ ...lease, spec: { holderIdentity: "node" } });
found.lease = (await objects.read(lease)).spec.holderIdentity;
await objects.delete(lease);

// Errors.
try {
  await core.readNamespacedSecret({ name: "none", namespace });
} catch (error) {
  found.error = [error.code, JSON.parse(error.body).reason];
}

// Who am I?
const review = await config.makeApiClient(k8s.AuthorizationV1Api).createSelfSubjectAccessReview({
  body: { spec: { resourceAttributes: { verb: "create", resource: "pods", namespace } } },
});
found.allowed = review.status.allowed;
found.version = (await config.makeApiClient(k8s.VersionApi).getCode()).minor;
console.log(JSON.stringify(found));
