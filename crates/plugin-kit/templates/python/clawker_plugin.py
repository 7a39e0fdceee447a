"""The plugin SDK for Python.

A policy is a class with the kinds of events that it is asked about and a method `evaluate`, which says what should be
done about the agent:

    from clawker_plugin import Policy, alert

    class OomAlert(Policy):
        events = ["ContainerOom"]

        def evaluate(self, event, facts, settings, state):
            return [alert("killed for memory")]

It is a function: the same event, facts, settings and state give the same verdicts. There is no clock, no randomness, no
network and no file; what happened when stands in the event. An exception is no answer: the host journals it and does
the operator's fallback. `Session` plays events to a policy in a test, without WebAssembly.
"""

import json
from dataclasses import dataclass

# What the contract calls the things of this module is only there once the plugin is built.
_MAX_REASON = 1024


@dataclass(frozen=True)
class Window:
    """Events of one kind that the host counts: `Window("EgressDenied", 60)` for a minute. 16 at most."""

    kind: str
    seconds: int


@dataclass(frozen=True)
class Setting:
    """A setting: its type in JSON Schema's words, what it is unless it is set, and what it means."""

    type: str
    default: object
    description: str = ""
    minimum: object = None

    def _schema(self):
        schema = {"type": self.type, "default": self.default}
        if self.description:
            schema["description"] = self.description
        if self.minimum is not None:
            schema["minimum"] = self.minimum
        return schema


@dataclass(frozen=True)
class Event:
    """Something that happened. `at` is in milliseconds since the Unix epoch, `body` the event's fields."""

    kind: str
    body: dict
    seq: int = 1
    at: int = 0
    agent: str = "clawker.demo.a"


class Facts:
    """What the host knows beside the event: what it counted, and what contains the agent now."""

    def __init__(self, counts=(), containment=None):
        self.counts = list(counts)
        self.containment = containment or {}

    def count(self, kind, seconds=None):
        """Events of that kind in the first such window, the one being evaluated included; 0 without a window."""
        for window, count in self.counts:
            if window.kind == kind and seconds in (None, window.seconds):
                return count
        return 0


@dataclass(frozen=True)
class Verdict:
    """What should be done about the agent, and why. Made by the functions below."""

    action: str
    reason: str
    allow: tuple = ()


def observe(reason):
    """Note it in the journal, nothing else."""
    return Verdict("observe", reason)


def alert(reason):
    """Tell the operator."""
    return Verdict("alert", reason)


def restrict_egress(allow, reason):
    """Let the agent reach these destinations, `address:port`, and no others; 64 at most."""
    return Verdict("restrict-egress", reason, tuple(allow))


def lock_network(reason):
    """Let nothing leave or enter the agent's network."""
    return Verdict("lock-network", reason)


def freeze(reason):
    """Stop the agent's processes from running, and keep them."""
    return Verdict("freeze", reason)


def stop(reason):
    """End the agent's processes."""
    return Verdict("stop", reason)


def kill(reason):
    """End the agent's processes at once."""
    return Verdict("kill", reason)


def revoke(reason):
    """Take the agent's identity away."""
    return Verdict("revoke", reason)


class Policy:
    """What a policy of yours is a subclass of."""

    #: Kinds of events that it is asked about.
    events = []
    #: What the host counts for it.
    windows = []
    #: What an operator may configure: names and `Setting`s.
    settings = {}

    def evaluate(self, event, facts, settings, state):
        """The verdicts; an empty list is "nothing". `settings` has every setting, `state` is a dict that is kept.

        What is put into `state` comes back with the agent's next event; as JSON it has 16 KiB at most.
        """
        raise NotImplementedError

    def _schema(self):
        properties = {name: setting._schema() for name, setting in self.settings.items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def _configured(self, given):
        return {name: given.get(name, setting.default) for name, setting in self.settings.items()}


class Session:
    """Plays events to a policy in a test, and keeps what a host would: windows, state, containment.

        session = Session(OomAlert(), settings={"freeze_after": 2})
        assert session.event("ContainerOom") == ["alert"]
    """

    def __init__(self, policy, settings=None, agent="clawker.demo.a"):
        unknown = set(settings or {}) - set(policy.settings)
        if unknown:
            raise ValueError(f"there is no setting {', '.join(sorted(unknown))}")
        self.policy = policy
        self.agent = agent
        self.settings = policy._configured(settings or {})
        self.at = 0
        self.seen = []
        self.state = "{}"
        self.containment = {"network": {"state": "open"}, "processes": "running", "identity": "valid"}
        self.verdicts = []

    def event(self, kind, body=None, at=None):
        """Plays one event, a second after the one before unless `at` says when, and gives the actions' names."""
        self.at = self.at + 1000 if at is None else at
        self.seen.append((kind, self.at))
        if kind not in self.policy.events:
            return []
        counts = [(window, self._count(window)) for window in self.policy.windows]
        facts = Facts(counts, json.loads(json.dumps(self.containment)))
        event = Event(kind, dict(body or {}), len(self.seen), self.at, self.agent)
        state = json.loads(self.state)
        self.verdicts = list(self.policy.evaluate(event, facts, dict(self.settings), state))
        self.state = json.dumps(state)
        if len(self.state) > 16 << 10:
            raise ValueError(f"a state of {len(self.state)} bytes, the limit is 16 KiB")
        for verdict in self.verdicts:
            self._contain(verdict)
        return [verdict.action for verdict in self.verdicts]

    def _count(self, window):
        since = self.at - window.seconds * 1000
        return sum(1 for kind, at in self.seen if kind == window.kind and at > since)

    def _contain(self, verdict):
        if verdict.action in ("restrict-egress", "lock-network"):
            self.containment["network"] = {"state": {"lock-network": "locked"}.get(verdict.action, "restricted")}
        elif verdict.action in ("freeze", "stop", "kill"):
            words = {"freeze": "frozen", "stop": "stopped", "kill": "killed"}
            self.containment["processes"] = words[verdict.action]
        elif verdict.action == "revoke":
            self.containment["identity"] = "revoked"


def export(policy):
    """Makes a policy the component's: `WitWorld = export(MyPolicy())`. Outside of a component it does nothing."""
    try:
        import wit_world
        from wit_world.imports import log, policy_types, settings, types
    except ImportError:
        return None
    # Whatever is imported now is in the component; there are no files in it to import later.
    import clawker_about

    class WitWorld(wit_world.WitWorld):
        def describe(self):
            return types.Description(
                clawker_about.NAME,
                clawker_about.VERSION,
                types.Kind.POLICY,
                json.dumps(policy._schema()),
                list(policy.events),
                [types.Window(window.kind, window.seconds) for window in policy.windows],
            )

        def evaluate(self, event, facts, state):
            try:
                return self._evaluate(event, facts, state)
            except Exception as error:
                # The last line at this level becomes the reason that people see.
                log.write(log.Level.ERROR, f"{type(error).__name__}: {error}")
                raise

        def _evaluate(self, event, facts, state):
            configured = policy._configured(json.loads(settings.get()))
            remembered = json.loads(state) if state else {}
            counts = [(Window(count.kind, count.seconds), count.count) for count in facts.counts]
            told = Facts(counts, json.loads(facts.containment))
            happened = Event(event.kind, json.loads(event.body), event.seq, event.at, event.agent)
            verdicts = policy.evaluate(happened, told, configured, remembered)
            said = [
                policy_types.Verdict(verdict.action, list(verdict.allow), verdict.reason[:_MAX_REASON])
                for verdict in verdicts
            ]
            return policy_types.Decision(said, json.dumps(remembered))

    return WitWorld
