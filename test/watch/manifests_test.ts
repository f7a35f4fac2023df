import assert from "node:assert/strict";
import { readManifestFile } from "../../watch/manifest_file.ts";
import { followManifests, type Manifests } from "../../watch/manifests.ts";
import { collectLog } from "../support/log_lines.ts";
import {
  type TemporaryFolder,
  temporaryFolder,
} from "../support/temporary_folder.ts";

function serviceYaml(name: string, ip: string, port = 80): string {
  return `apiVersion: v1
kind: Service
metadata:
  name: ${name}
spec:
  clusterIP: ${ip}
  ports:
    - port: ${port}
`;
}

/** What the folder held each time it changed, as `web:80 api:81`. */
class Reader implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #events: AsyncGenerator<string, void>;

  constructor(folder: string) {
    this.#events = this.#read(folder);
  }

  async *#read(folder: string): AsyncGenerator<string, void> {
    const events = followManifests(folder, { signal: this.#stop.signal });
    for await (const event of events) {
      yield event.type === "state"
        ? event.state.phase
        : summary(event.manifests);
    }
  }

  async next(): Promise<string> {
    const { value } = await this.#events.next();
    return value ?? "end";
  }

  /** The next state of the folder that looks like this; others may come first. */
  async until(wanted: string): Promise<void> {
    while (await this.next() !== wanted);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#events.return();
  }
}

function summary({ services }: Manifests): string {
  return [...services.objects.values()].map((service) =>
    `${service.metadata.name}:${service.spec.ports[0]?.port}`
  ).join(" ");
}

/** A file that readers never see half written. */
async function replace(folder: TemporaryFolder, name: string, text: string) {
  const temporary = await folder.write(`${name}.new`, text);
  await Deno.rename(temporary, `${folder.path}/${name}`);
}

function testFolder(
  name: string,
  fn: (folder: TemporaryFolder, reader: Reader) => Promise<void>,
): void {
  Deno.test({
    name,
    timeout: 30_000,
    async fn() {
      await using folder = await temporaryFolder();
      await using reader = new Reader(folder.path);
      await fn(folder, reader);
    },
  });
}

testFolder(
  "followManifests() begins with all files, in order",
  async (folder, reader) => {
    await folder.write("b.yaml", serviceYaml("b", "10.0.0.2"));
    await folder.write("a.yml", serviceYaml("a", "10.0.0.1"));
    await folder.write("c.json", "[]");
    await folder.write(".hidden.yaml", serviceYaml("hidden", "10.0.0.3"));
    await folder.write("notes.txt", serviceYaml("text", "10.0.0.4"));
    await Deno.mkdir(`${folder.path}/folder.yaml`);
    assert.equal(await reader.next(), "following");
    assert.equal(await reader.next(), "a:80 b:80");
  },
);

testFolder(
  "an object that is written twice is said once, whatever other files do",
  async (folder, reader) => {
    await using log = await collectLog();
    const twice = `${serviceYaml("web", "10.0.0.1")}---\n${
      serviceYaml("web", "10.0.0.1", 81)
    }`;
    await folder.write("a.yaml", twice);
    await reader.until("web:81");
    await replace(folder, "b.yaml", serviceYaml("api", "10.0.0.2"));
    await reader.until("web:81 api:80");
    const said = log.lines.filter((line) => line.includes("written twice"));
    assert.equal(said.length, 1, log.lines.join(""));
  },
);

testFolder(
  "followManifests() counts an empty folder as complete",
  async (_, reader) => {
    assert.equal(await reader.next(), "following");
    assert.equal(await reader.next(), "");
  },
);

testFolder(
  "followManifests() follows writing, renaming and removing",
  async (folder, reader) => {
    await folder.write("a.yaml", serviceYaml("a", "10.0.0.1"));
    await reader.until("a:80");
    await folder.write("a.yaml", serviceYaml("a", "10.0.0.1", 81));
    await reader.until("a:81");
    await replace(folder, "a.yaml", serviceYaml("a", "10.0.0.1", 82));
    await reader.until("a:82");
    await replace(folder, "b.yaml", serviceYaml("b", "10.0.0.2"));
    await reader.until("a:82 b:80");
    await Deno.remove(`${folder.path}/a.yaml`);
    await reader.until("b:80");
  },
);

testFolder(
  "followManifests() keeps the last good state of a broken file",
  async (folder, reader) => {
    await folder.write("a.yaml", serviceYaml("a", "10.0.0.1"));
    await reader.until("a:80");
    await replace(folder, "a.yaml", "kind: [Service\n");
    await replace(folder, "b.yaml", serviceYaml("b", "10.0.0.2"));
    await reader.until("a:80 b:80");
    await replace(folder, "a.yaml", serviceYaml("a", "10.0.0.1", 81));
    await reader.until("a:81 b:80");
  },
);

testFolder(
  "followManifests() follows a mounted ConfigMap",
  async (folder, reader) => {
    // As the kubelet does: files are links through ..data, which is swapped.
    const version = async (name: string, port: number) => {
      await Deno.mkdir(`${folder.path}/${name}`);
      await Deno.writeTextFile(
        `${folder.path}/${name}/a.yaml`,
        serviceYaml("a", "10.0.0.1", port),
      );
      await Deno.symlink(name, `${folder.path}/..data_tmp`);
      await Deno.rename(`${folder.path}/..data_tmp`, `${folder.path}/..data`);
    };
    await version("..2026_01", 80);
    await Deno.symlink("..data/a.yaml", `${folder.path}/a.yaml`);
    await reader.until("a:80");
    await version("..2026_02", 81);
    await reader.until("a:81");
  },
);

Deno.test({
  name: "followManifests() waits for a folder that is not there",
  timeout: 30_000,
  async fn() {
    await using parent = await temporaryFolder();
    const path = `${parent.path}/later`;
    await using reader = new Reader(path);
    assert.equal(await reader.next(), "waiting");
    await Deno.mkdir(path);
    await Deno.writeTextFile(`${path}/a.yaml`, serviceYaml("a", "10.0.0.1"));
    await reader.until("a:80");
  },
});

Deno.test("readManifestFile() gives objects a namespace and a version of their own", () => {
  const [one] =
    readManifestFile("a.yaml", serviceYaml("web", "10.0.0.1")).objects;
  const [two] =
    readManifestFile("a.yaml", serviceYaml("web", "10.0.0.2")).objects;
  const [same] =
    readManifestFile("b.yaml", "# x\n" + serviceYaml("web", "10.0.0.1"))
      .objects;
  assert.equal(one?.object.metadata.namespace, "default");
  assert.notEqual(
    one?.object.metadata.resourceVersion,
    two?.object.metadata.resourceVersion,
  );
  assert.deepEqual(one?.object, same?.object);
});

Deno.test("readManifestFile() does not believe a version that was exported", () => {
  const exported = (port: number) =>
    serviceYaml("web", "10.0.0.1", port).replace(
      "name: web",
      'name: web\n  resourceVersion: "7"',
    );
  const [before] = readManifestFile("a.yaml", exported(80)).objects;
  const [after] = readManifestFile("a.yaml", exported(81)).objects;
  assert.notEqual(
    before?.object.metadata.resourceVersion,
    after?.object.metadata.resourceVersion,
  );
});

Deno.test("readManifestFile() names file and line of what is wrong", () => {
  const text = [
    serviceYaml("good", "10.0.0.1"),
    "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {clusterIP: 10.0.0.2, ports: [{port: http}]}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: bare}\nspec: {ports: [{port: 80}]}\n",
    "just text\n",
  ].join("---\n");
  const file = readManifestFile("web.yaml", text);
  assert.deepEqual(file.objects.map(({ place }) => place), ["web.yaml:1"]);
  assert.deepEqual(file.problems, [
    'web.yaml:10: Cannot read Service default/bad: spec.ports[0].port is "http", want a whole number 0–65535',
    "web.yaml:15: Skipping Service default/bare: it has no clusterIP, and there is no API server to give it one",
    "web.yaml:20: Skipping a document that is no object",
  ]);
  assert.deepEqual(file.unreadable, [{ kind: "Service", key: "default/bad" }]);
  assert.equal(file.broken, false);
});

Deno.test("readManifestFile() names what is no IP address", () => {
  const slice = (addressType: string, ...addresses: string[]) =>
    `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${addressType.toLowerCase()}}
addressType: ${addressType}
endpoints: [${addresses.map((ip) => `{addresses: ["${ip}"]}`).join()}]
`;
  const text = [
    serviceYaml("far", "10.0.0.300"),
    serviceYaml("sloppy", "010.000.0.01"),
    serviceYaml("v6", "fd00::1"),
    slice("IPv4", "10.0.0.2", "ten"),
    slice("IPv6", "fe80::1%eth0", "fd00::0001"),
    slice("FQDN", "ten.example"),
  ].join("---\n");
  const file = readManifestFile("web.yaml", text);
  assert.deepEqual(
    file.objects.map(({ object }) => object.metadata.name),
    ["sloppy", "v6", "ipv4", "ipv6", "fqdn"],
  );
  assert.deepEqual(file.unreadable, [{ kind: "Service", key: "default/far" }]);
  assert.deepEqual(file.problems.map((text) => text.split(": ", 2)[1]), [
    "Cannot read Service default/far",
    "No endpoint of EndpointSlice default/ipv4",
    "No endpoint of EndpointSlice default/ipv6",
  ]);
  assert.match(file.problems[0] ?? "", /"10\.0\.0\.300", want an IP address$/);
});

Deno.test("readManifestFile() names the line of broken YAML", () => {
  const text = serviceYaml("good", "10.0.0.1") +
    "---\nkind: Service\nspec: [1\nx: 2\n";
  const { broken, problems } = readManifestFile("web.yaml", text);
  assert.equal(broken, true);
  assert.equal(problems.length, 1);
  assert.match(problems[0] ?? "", /^web\.yaml:1[0-2]: Cannot read YAML: /);
});

Deno.test("readManifestFile() takes kubectl's List and the API's ServiceList", () => {
  const item = (name: string) => ({
    metadata: { name },
    spec: { clusterIP: "10.0.0.1", ports: [{ port: 80 }] },
  });
  const type = { apiVersion: "v1", kind: "Service" };
  const texts = [
    { apiVersion: "v1", kind: "List", items: [{ ...type, ...item("a") }] },
    { apiVersion: "v1", kind: "ServiceList", items: [item("b")] },
  ];
  const names = texts.flatMap((value) =>
    readManifestFile("x.json", JSON.stringify(value)).objects.map((
      { object },
    ) => object.metadata.name)
  );
  assert.deepEqual(names, ["a", "b"]);
});

Deno.test("readManifestFile() leaves out what kube-proxy's selectors leave out", () => {
  const text = [
    serviceYaml("headless", "None"),
    serviceYaml("other", "10.0.0.1").replace(
      "name: other",
      "name: other\n  labels: {service.kubernetes.io/service-proxy-name: x}",
    ),
    "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: k}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: out}\nspec: {type: ExternalName}\n",
  ].join("---\n");
  const file = readManifestFile("a.yaml", text);
  assert.deepEqual(file.objects.map(({ object }) => object.metadata.name), [
    "out",
  ]);
  assert.deepEqual(file.problems, []);
  assert.equal(file.ignored.length, 2);
});
