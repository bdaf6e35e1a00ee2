"""Receivers of alerts: each format, retries, a receiver that hangs, refuses or is away, a queue that is full; a real Alertmanager."""
import json
import socket
import urllib.request

from harness import *

QUICK = {"performance.alert_interval": "1s", "performance.alert_window": "10s", "performance.alert_cooldown_seconds": 0}
ALIVE = {"metric_type": "MEMORY_USAGE", "condition": "> 1", "severity": "warning", "message": "It <lives> & it's \"well\".", "cooldown_period": 0}


def receiver(t, *statuses, fields=()):
    """Answers with these statuses, one after the other, then 200."""
    left = list(statuses)

    def script(conn):
        while True:
            conn.request()
            conn.reply(status=left.pop(0) if left else 200, fields=fields)
    return t.origin(script)


def start(t, receivers, **more):
    hooks = [{"url": "http://127.0.0.1:%d%s" % (origin.port, path), "format": form} for origin, path, form in receivers]
    return t.sidecar(t.origin(), dict(QUICK, **{"notifications.webhooks": hooks}, **more))


def raise_one(sidecar, name="alive"):
    equal(sidecar.admin("/api/v1/alerts/" + name, "PUT", ALIVE)[0], 200, "status")


def told(origin, n=0):
    return json.loads(origin.requests[n].body)


def looks(sidecar, place=0):
    return sidecar.admin("/api/v1/alerts")[2]["receivers"][place]


def test_json(t):
    origin = receiver(t)
    sidecar = start(t, [(origin, "/hook", "json")])
    raise_one(sidecar)
    origin.wait_requests(1)
    request = origin.requests[0]
    equal((request.method, request.target, request.get("Content-Type")), ("POST", "/hook", "application/json"), "request")
    check(request.get("User-Agent").startswith("promptops-sidecar/"), "User-Agent")
    message = told(origin)
    equal((message["version"], message["service"], len(message["alerts"])), (1, "promptops-sidecar", 1), "message")
    one = message["alerts"][0]
    equal((one["id"], one["event"], one["status"], one["severity"], one["condition"], one["message"]), ("alive", "raised", "firing", "warning", "> 1", ALIVE["message"]), "alert")
    sidecar.admin("/api/v1/alerts/alive", "DELETE")
    origin.wait_requests(2)
    equal((told(origin, 1)["alerts"][0]["event"], told(origin, 1)["alerts"][0]["status"]), ("resolved", "resolved"), "the end")
    wait_for(lambda: looks(sidecar)["sent"] == 2, "the count")
    equal((looks(sidecar)["format"], looks(sidecar)["waiting"]), ("json", 0), "receiver")


def test_alerts_of_one_judgement_are_one_message(t):
    origin = receiver(t)
    rules = [dict(ALIVE, id="a%d" % i) for i in range(5)]
    sidecar = start(t, [(origin, "/", "json")], alerts=rules)
    origin.wait_requests(1)
    equal(sorted(a["id"] for a in told(origin)["alerts"]), ["a%d" % i for i in range(5)], "alerts")
    check(sidecar.request("/").status == 200, "a request")


def test_slack(t):
    origin = receiver(t)
    raise_one(start(t, [(origin, "/services/T0/B0/secret", "slack")]))
    origin.wait_requests(1)
    message = told(origin)
    equal(list(message), ["text"], "members")
    check("[warning] alive on promptops-sidecar" in message["text"] and "It &lt;lives&gt; &amp; it's" in message["text"], message["text"])


def test_the_path_of_a_receiver_is_not_shown(t):
    origin = receiver(t, 404)
    sidecar = start(t, [(origin, "/services/secret", "slack")])
    raise_one(sidecar)
    wait_for(lambda: looks(sidecar)["failed"] == 1, "the failure")
    check(not any("services" in line for line in sidecar.log), "the log shows it")
    check("secret" not in json.dumps(sidecar.admin("/api/v1/alerts")[2]), "the port shows it")


def test_alertmanager(t):
    origin = receiver(t)
    sidecar = start(t, [(origin, "", "alertmanager")])
    raise_one(sidecar)
    origin.wait_requests(1)
    equal(origin.requests[0].target, "/api/v2/alerts", "target")
    one = told(origin)[0]
    equal((one["labels"]["alertname"], one["labels"]["severity"], one["annotations"]["description"]), ("alive", "warning", ALIVE["message"]), "alert")
    check(one["startsAt"] < one["endsAt"], one)
    sidecar.admin("/api/v1/alerts/alive", "DELETE")
    origin.wait_requests(2)
    equal(told(origin, 1)[0]["labels"], one["labels"], "labels")
    equal(told(origin, 1)[0]["startsAt"][:19], one["startsAt"][:19], "startsAt")
    check(told(origin, 1)[0]["endsAt"] < one["endsAt"], "endsAt")


def test_tried_again(t):
    for name, statuses in (("500", (500,)), ("429", (429,)), ("twice 503", (503, 503))):
        with t.case(name):
            origin = receiver(t, *statuses)
            sidecar = start(t, [(origin, "/", "json")])
            raise_one(sidecar)
            origin.wait_requests(len(statuses) + 1)
            equal(told(origin, len(statuses)), told(origin), "the message")
            wait_for(lambda: looks(sidecar)["sent"] == 1, "the count")
            equal(looks(sidecar)["error"], None, "error")


def test_refused_for_good(t):
    origin = receiver(t, 400)
    sidecar = start(t, [(origin, "/", "json")])
    raise_one(sidecar)
    wait_for(lambda: looks(sidecar)["failed"] == 1, "the failure")
    equal((looks(sidecar)["waiting"], looks(sidecar)["error"]), (0, "answered 400"), "receiver")
    raise_one(sidecar, "second")
    wait_for(lambda: looks(sidecar)["sent"] == 1, "the next message")


def test_receivers_that_hang_or_are_away_are_not_felt(t):
    hung = t.origin(lambda conn: (conn.request(), conn.gone(60)))
    good = receiver(t)
    away = socket.socket()
    away.bind(("127.0.0.1", 0))        # nobody listens there
    t.at_end(away.close)
    hooks = [{"url": "http://127.0.0.1:%d/" % hung.port}, {"url": "http://127.0.0.1:%d/" % away.getsockname()[1]}, {"url": "http://127.0.0.1:%d/" % good.port}]
    sidecar = t.sidecar(t.origin(), dict(QUICK, **{"notifications.webhooks": hooks}))
    raise_one(sidecar)
    good.wait_requests(1)
    for i in range(40):                # an alert more and one less a judgement: more messages than a queue holds
        raise_one(sidecar, "more-%d" % i)
        with sidecar.client() as client:
            began = time.monotonic()
            equal(client.request("/").status, 200, "status")
            check(time.monotonic() - began < 1, "a request took %.1f s" % (time.monotonic() - began))
    wait_for(lambda: looks(sidecar, 1)["error"], "the one that is away")
    equal((looks(sidecar, 0)["sent"], looks(sidecar, 1)["sent"]), (0, 0), "sent")
    check(looks(sidecar, 0)["waiting"] <= 32, "the queue")
    check(looks(sidecar, 2)["sent"] >= 1, "the good one")


def test_a_reload_changes_receivers(t):
    first, second = receiver(t), receiver(t)
    sidecar = start(t, [(first, "/", "json")])
    raise_one(sidecar)
    first.wait_requests(1)
    sidecar.write_config({"notifications.webhooks": [{"url": "http://127.0.0.1:%d/" % second.port, "format": "json"}]})
    sidecar.signal(signal.SIGHUP)
    wait_for(lambda: any("reloaded" in line for line in sidecar.log), "the reload")
    sidecar.admin("/api/v1/alerts/alive", "DELETE")
    second.wait_requests(1)
    equal(told(second)["alerts"][0]["event"], "resolved", "event")
    equal(len(first.requests), 1, "requests at the first")


def test_a_real_alertmanager(t):
    if not shutil.which("prometheus-alertmanager"):
        raise Skip("there is no prometheus-alertmanager here")
    hook = receiver(t)
    place = tempfile.mkdtemp()
    t.at_end(shutil.rmtree, place)
    with open(place + "/am.yml", "w") as out:
        out.write("route: {receiver: hook, group_wait: 0s, group_interval: 1s, group_by: [alertname]}\n"
                  "receivers: [{name: hook, webhook_configs: [{url: 'http://127.0.0.1:%d/', send_resolved: true}]}]\n" % hook.port)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    manager = subprocess.Popen(["prometheus-alertmanager", "--config.file=%s/am.yml" % place, "--storage.path=%s/data" % place, "--web.listen-address=127.0.0.1:%d" % port,
                                "--cluster.listen-address="], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.at_end(lambda: (manager.kill(), manager.wait()))

    def ask(path):
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, path), timeout=5) as answer:
                return json.load(answer) if "json" in answer.headers.get("Content-Type", "") else answer.read()
        except OSError:
            return None
    wait_for(lambda: ask("/-/ready") is not None, "Alertmanager")
    sidecar = t.sidecar(t.origin(), dict(QUICK, **{"notifications.webhooks": [{"url": "http://127.0.0.1:%d" % port, "format": "alertmanager"}]}))
    raise_one(sidecar)
    wait_for(lambda: [a["labels"]["alertname"] for a in ask("/api/v2/alerts") or []] == ["alive"], "the alert at the Alertmanager")
    hook.wait_requests(1)
    equal((told(hook)["status"], told(hook)["alerts"][0]["annotations"]["description"]), ("firing", ALIVE["message"]), "what it tells")
    sidecar.admin("/api/v1/alerts/alive", "DELETE")
    wait_for(lambda: any(told(hook, i)["status"] == "resolved" for i in range(len(hook.requests))), "the end")
