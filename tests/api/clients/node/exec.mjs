// exec, logs and port-forward through the Node.js client, against a pod that runs.
import net from "node:net";
import { PassThrough } from "node:stream";
import * as k8s from "@kubernetes/client-node";

const [, , kubeconfig, namespace, pod] = process.argv;
const config = new k8s.KubeConfig();
config.loadFromFile(kubeconfig);
const found = {};
const collect = (stream, into) => stream.on("data", (data) => (found[into] = (found[into] ?? "") + data));

const stdout = new PassThrough();
const stderr = new PassThrough();
const stdin = new PassThrough();
collect(stdout, "stdout");
collect(stderr, "stderr");
const command = ["sh", "-c", "read line; echo got $line; echo oops >&2; exit 3"];
await new Promise((done, failed) => {
  const ended = (status) => {
    found.status = [status.status, status.reason, status.details?.causes?.[0]?.message];
    setTimeout(done, 200);
  };
  new k8s.Exec(config).exec(namespace, pod, "web", command, stdout, stderr, stdin, false, ended).catch(failed);
  stdin.write("hello\n");
});

const forward = new k8s.PortForward(config);
const server = net.createServer((socket) => forward.portForward(namespace, pod, [8080], socket, null, socket));
await new Promise((done) => server.listen(0, "127.0.0.1", done));
found.page = await (await fetch(`http://127.0.0.1:${server.address().port}/`, { headers: { connection: "close" } })).text();
server.close();

const logged = new PassThrough();
collect(logged, "logs");
await new k8s.Log(config).log(namespace, pod, "web", logged, { tailLines: 5 });
await new Promise((done) => logged.on("end", done));
console.log(JSON.stringify(found));
process.exit(0);
