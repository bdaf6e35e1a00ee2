"""Collector: an OpenTelemetry collector for tests, by gRPC (python3-grpcio) and by HTTP/protobuf.

Messages are decoded by Google's protobuf library with the schema below, the part of OTLP 1.x that a
sidecar may send; whatever it does not know makes the message bad.
"""
import http.server
import os
import threading

from .wait import wait_for

# message: field=number type ...; * = repeated, ? = optional (its presence counts), | = one of
SCHEMA = """
AnyValue: string_value=1|string bool_value=2|bool int_value=3|int64 double_value=4|double
KeyValue: key=1 string; value=2 AnyValue
Scope: name=1 string; version=2 string; attributes=3 *KeyValue
Resource: attributes=1 *KeyValue; dropped_attributes_count=2 uint32
Exemplar: filtered_attributes=7 *KeyValue; time_unix_nano=2 fixed64; as_double=3|double as_int=6|sfixed64; span_id=4 bytes; trace_id=5 bytes
NumberDataPoint: attributes=7 *KeyValue; start_time_unix_nano=2 fixed64; time_unix_nano=3 fixed64; as_double=4|double as_int=6|sfixed64; exemplars=5 *Exemplar; flags=8 uint32
Buckets: offset=1 sint32; bucket_counts=2 *uint64
ExponentialHistogramDataPoint: attributes=1 *KeyValue; start_time_unix_nano=2 fixed64; time_unix_nano=3 fixed64; count=4 fixed64; sum=5 ?double; scale=6 sint32; zero_count=7 fixed64; positive=8 Buckets; negative=9 Buckets; flags=10 uint32; exemplars=11 *Exemplar; min=12 ?double; max=13 ?double; zero_threshold=14 double
Gauge: data_points=1 *NumberDataPoint
Sum: data_points=1 *NumberDataPoint; aggregation_temporality=2 int32; is_monotonic=3 bool
ExponentialHistogram: data_points=1 *ExponentialHistogramDataPoint; aggregation_temporality=2 int32
Metric: name=1 string; description=2 string; unit=3 string; gauge=5|Gauge sum=7|Sum exponential_histogram=10|ExponentialHistogram
ScopeMetrics: scope=1 Scope; metrics=2 *Metric; schema_url=3 string
ResourceMetrics: resource=1 Resource; scope_metrics=2 *ScopeMetrics; schema_url=3 string
MetricsRequest: resource_metrics=1 *ResourceMetrics
Event: time_unix_nano=1 fixed64; name=2 string; attributes=3 *KeyValue; dropped_attributes_count=4 uint32
Link: trace_id=1 bytes; span_id=2 bytes; trace_state=3 string; attributes=4 *KeyValue
Status: message=2 string; code=3 int32
Span: trace_id=1 bytes; span_id=2 bytes; trace_state=3 string; parent_span_id=4 bytes; name=5 string; kind=6 int32; start_time_unix_nano=7 fixed64; end_time_unix_nano=8 fixed64; attributes=9 *KeyValue; dropped_attributes_count=10 uint32; events=11 *Event; dropped_events_count=12 uint32; links=13 *Link; status=15 Status; flags=16 fixed32
ScopeSpans: scope=1 Scope; spans=2 *Span; schema_url=3 string
ResourceSpans: resource=1 Resource; scope_spans=2 *ScopeSpans; schema_url=3 string
TraceRequest: resource_spans=1 *ResourceSpans
Partial: rejected=1 int64; error_message=2 string
Answer: partial_success=1 Partial
"""

SERVICES = {"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "MetricsRequest", "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "TraceRequest",
            "/v1/metrics": "MetricsRequest", "/v1/traces": "TraceRequest"}


def build():
    """{name: message class} of SCHEMA."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    kinds = {kind: getattr(descriptor_pb2.FieldDescriptorProto, "TYPE_" + kind.upper())
             for kind in ("string", "bytes", "bool", "double", "int32", "int64", "uint32", "uint64", "sint32", "fixed32", "fixed64", "sfixed64")}
    file = descriptor_pb2.FileDescriptorProto(name="otlp.proto", package="otlp", syntax="proto3")
    for line in SCHEMA.strip().split("\n"):
        name, _, rest = line.partition(": ")
        message = file.message_type.add(name=name)
        for part in rest.split("; "):
            one_of = "|" in part
            if one_of:
                message.oneof_decl.add(name="value%d" % len(message.oneof_decl))
            for field in part.split(" ") if one_of else [part.replace(" ", "|", 1)]:
                key, _, kind = field.partition("|")
                key, _, number = key.partition("=")
                entry = message.field.add(name=key, number=int(number), label=3 if kind[0] == "*" else 1)
                if one_of:
                    entry.oneof_index = len(message.oneof_decl) - 1
                elif kind[0] == "?":
                    message.oneof_decl.add(name="_" + key)
                    entry.oneof_index, entry.proto3_optional = len(message.oneof_decl) - 1, True
                kind = kind.lstrip("*?")
                if kind in kinds:
                    entry.type = kinds[kind]
                else:
                    entry.type, entry.type_name = 11, ".otlp." + kind
        # synthetic oneofs (of optional fields) must stand behind the real ones: none has both
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return {m.name: factory.GetPrototype(pool.FindMessageTypeByName("otlp." + m.name)) for m in file.message_type}


def attributes(fields):
    """KeyValues as a dict."""
    found = {}
    for field in fields:
        if field.key in found:
            raise ValueError("twice: " + field.key)
        found[field.key] = getattr(field.value, field.value.WhichOneof("value0"))
    return found


def unknown(message):
    """Bytes that the schema does not know, anywhere in it."""
    if message.UnknownFields():
        return True
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if field.label == field.LABEL_REPEATED else [value]:
                if unknown(inner):
                    return True
    return False


class Point:
    def __init__(self, metric, kind, resource, scope, data):
        self.metric, self.kind, self.resource, self.scope, self.data = metric, kind, resource, scope, data
        self.name, self.unit = metric.name, metric.unit
        self.attributes = attributes(data.attributes)
        self.start, self.time = data.start_time_unix_nano, data.time_unix_nano
        self.value = None if kind == "exponential_histogram" else getattr(data, data.WhichOneof("value0"))


class Span:
    def __init__(self, resource, span):
        self.resource, self.span = resource, span
        self.name, self.kind, self.attributes = span.name, span.kind, attributes(span.attributes)
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.events = [(e.name, attributes(e.attributes)) for e in span.events]
        self.status = span.status.code


class Collector:
    """Takes what comes. `script(kind, number)` may return what to answer instead of success:
    gRPC: (code name, trailing metadata); HTTP: (status, fields); a number: so many were rejected; "hang".
    """

    def __init__(self, protocol, script=None, certificate=None):
        self.certificate = certificate             # (certificate file, key file): TLS
        self.protocol, self.script = protocol, script or (lambda kind, number: None)
        self.classes = build()
        self.lock, self.messages, self.calls, self.wrong, self.fields = threading.Lock(), [], 0, [], []
        self.released = threading.Event()
        self.metric_messages, self.all_spans = [], []
        (self.start_grpc if protocol == "grpc" else self.start_http)()

    # ---- taking ----

    def decode(self, kind, body):
        message = self.classes[kind]()
        message.ParseFromString(body)
        if unknown(message):
            raise ValueError("fields that OTLP does not have")
        return message

    def take(self, path, body, fields):
        """Returns what to answer, as the script says."""
        with self.lock:
            self.calls += 1
            number = self.calls
            self.fields.append(fields)
        kind = SERVICES.get(path)
        try:
            if not kind:
                raise ValueError("nobody serves " + path)
            message = self.decode(kind, body)
            points = self.points_of(message) if kind == "MetricsRequest" else None
            spans = self.spans_of(message) if kind == "TraceRequest" else None
        except Exception as error:  # pylint: disable=broad-except
            self.wrong.append(repr(error))
            return (400, []) if self.protocol != "grpc" else ("INVALID_ARGUMENT", [])
        answer = self.script(kind, number)
        if answer == "hang":
            self.released.wait(60)
            answer = None
        if answer is None or isinstance(answer, int):
            with self.lock:
                self.messages.append(message)
                if points is not None:
                    self.metric_messages.append(points)
                self.all_spans.extend(spans or [])
        return answer

    def points_of(self, message):
        found = []
        for resource in message.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    kind = metric.WhichOneof("value0")
                    data = getattr(metric, kind)
                    if not data.data_points:
                        raise ValueError(metric.name + " is empty")
                    if kind != "gauge" and data.aggregation_temporality != 2:
                        raise ValueError(metric.name + " is not cumulative")
                    found += [Point(metric, kind, attributes(resource.resource.attributes), scope.scope.name, p) for p in data.data_points]
        return found

    def spans_of(self, message):
        return [Span(attributes(r.resource.attributes), s) for r in message.resource_spans for scope in r.scope_spans for s in scope.spans]

    def answer_bytes(self, rejected):
        answer = self.classes["Answer"]()
        if rejected:
            answer.partial_success.rejected = rejected
            answer.partial_success.error_message = "too many"
        return answer.SerializeToString()

    # ---- gRPC ----

    def start_grpc(self):
        import concurrent.futures
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")   # a refused handshake is what a test wants
        import grpc
        collector = self

        class Any(grpc.GenericRpcHandler):
            def service(self, call):
                def handle(body, context):
                    answer = collector.take(call.method, body, dict(call.invocation_metadata))
                    if isinstance(answer, tuple):
                        context.set_trailing_metadata(answer[1])
                        context.abort(getattr(grpc.StatusCode, answer[0]), "as the test wants")
                    return collector.answer_bytes(answer)
                return grpc.unary_unary_rpc_method_handler(handle)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=8), handlers=[Any()])
        if self.certificate:
            files = []
            for path in self.certificate:
                with open(path, "rb") as file:
                    files.append(file.read())
            self.port = self.server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(files[1], files[0])]))
        else:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    # ---- HTTP ----

    def start_http(self):
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Type"] != "application/x-protobuf":
                    collector.wrong.append("Content-Type " + str(self.headers["Content-Type"]))
                answer = collector.take(self.path, body, {k.lower(): v for k, v in self.headers.items()})
                status, fields = answer if isinstance(answer, tuple) else (200, [])
                data = b"" if isinstance(answer, tuple) else collector.answer_bytes(answer)
                self.send_response(status)
                for name, value in fields:
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if self.certificate:
            import ssl
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    # ---- looking ----

    @property
    def url(self):
        return "%s://127.0.0.1:%d" % ("https" if self.certificate else "http", self.port)

    def points(self, name=None, **wanted):
        """The points of the newest message with metrics that have this name and these attributes (dots as __)."""
        wanted = {k.replace("__", "."): v for k, v in wanted.items()}
        with self.lock:
            newest = list(self.metric_messages[-1]) if self.metric_messages else []
        return [p for p in newest if (name is None or p.name == name) and all(p.attributes.get(k) == v for k, v in wanted.items())]

    def spans(self, **wanted):
        wanted = {k.replace("__", "."): v for k, v in wanted.items()}
        with self.lock:
            spans = list(self.all_spans)
        return [s for s in spans if all(s.attributes.get(k) == v for k, v in wanted.items())]

    def wait_metrics(self, n=1):
        """Waits for n further messages with metrics."""
        seen = len(self.metric_messages)
        wait_for(lambda: len(self.metric_messages) >= seen + n, "metrics at the collector")

    def close(self):
        self.released.set()
        if self.protocol == "grpc":
            self.server.stop(None).wait(5)
        else:
            self.server.shutdown()
            self.server.server_close()


__all__ = ["Collector", "attributes"]
