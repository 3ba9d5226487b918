"""``bitfront-measure validate [key=value ...]``: predictions beside end-to-end measurements."""

from __future__ import annotations

from collections.abc import Sequence

from hw_profiles.backends import load_backend
from hw_profiles.latency import Check, LatencyModel, Target, load_or_fit
from quant.errors import UsageError
from search.api import compose_plain
from search.latency import frame, ops_frame
from search.latency_figures import Accuracy, Figures, figures, op_figures
from search.plan import device_of, load_task, make_plan
from search.progress import say
from search.settings import Settings

NOISE_LIMIT = 0.10


def validate(overrides: Sequence[str]) -> str:
    """Measures mixed policies of a task end to end, anew, and returns the report as text.

    Raises:
        UsageError: the table is not one measured on this machine, or the model cannot be
            translated for the runtime.
        BitfrontError: as for a search.
    """
    composed = compose_plain(overrides)
    composed["hw"] = {name: {**device, "check": False} for name, device in composed["hw"].items()}
    settings = Settings.from_dict(composed)
    hw = device_of(settings)
    if hw.profile != "auto":
        raise UsageError(
            f"table '{hw.profile}' is not measured on this machine",
            where=f"hw.{hw.name}.profile",
            expected="auto: policies are run on the device itself",
            fix="validate a device that is this machine, for example hw=this",
        )
    plan = make_plan(settings, task=load_task(settings))
    backend = load_backend(hw)
    on_device = plan.task.on_device
    network = backend.network(on_device.model, plan.space.layers, on_device.example_input)
    target = Target(network, plan.space, backend, hw)
    model, profile, _ = load_or_fit(target, plan.profile, say, again=True)
    heading = f"{profile.device.name}, {profile.runtime} {profile.runtime_version}, 1 thread"
    return f"{heading}\n{plan.task.name} in space '{plan.space.name}'\n\n{text(model)}"


def text(model: LatencyModel) -> str:
    """Policies, errors and what they mean, as plain text."""
    found = figures(frame(model.checks))
    lines = [_HEADER, *(_row(check) for check in model.checks), ""]
    if found is None:
        return "\n".join([*lines, "no mixed policy runs differently from a uniform one"])
    return "\n".join([*lines, *_summary(model, found), "", *_ops(model)])


_HEADER = (
    f"{'policy':>14s} {'predicted':>10s} {'node sum':>10s} {'measured':>10s} {'again':>10s} "
    f"{'wall p50':>10s} {'wall p99':>10s}  (ms)"
)


def _row(check: Check) -> str:
    times = (
        check.predicted_ms,
        check.node_sum_ms,
        check.measured_ms,
        check.measured_again_ms,
        check.wall_p50_ms,
        check.wall_p99_ms,
    )
    return f"{check.tag or check.policy_id:>14s} " + " ".join(f"{time:10.4f}" for time in times)


def _summary(model: LatencyModel, found: Figures) -> list[str]:
    lines = [
        f"{found.n} mixed policies drawn by seed; the line through the uniform ones is "
        f"{model.intercept_ms:+.4f} ms + {model.slope:.3f} x sum",
        _line("table + conversions", found.additive),
        _line("nodes of each graph", found.node_sum),
        f"{'before the fit':22s} error {100 * found.raw_mape:5.1f} %",
        f"{'noise floor':22s} error {100 * found.noise:5.1f} %   tau {found.self_tau:5.2f}"
        "   (the same policy in two sessions)",
        f"{'bit operations':22s} {'':14s} tau {found.bops_tau:5.2f}",
        f"{'size':22s} {'':14s} tau {found.size_tau:5.2f}",
    ]
    if found.noise > NOISE_LIMIT:
        lines.append(
            f"the noise floor is above {100 * NOISE_LIMIT:.0f} %: other work disturbed this "
            "measurement; run the command again on a quieter machine"
        )
    return lines


def _ops(model: LatencyModel) -> list[str]:
    """Which kinds of nodes take longer inside the network than alone."""
    names = f"{'of the time':>12s} {'a node':>9s} {'error':>8s} {'bias':>8s}"
    head = f"{'nodes of the graphs':>22s} {names}"
    rows = [
        f"{item.op:>22s} {100 * item.share:10.1f} % {item.node_us:6.1f} us "
        f"{100 * item.error:6.1f} % {100 * item.bias:+6.1f} %"
        for item in op_figures(ops_frame(model.ops))
    ]
    return [f"{head}  (alone against inside the network, before the fit)", *rows] if rows else []


def _line(name: str, found: Accuracy) -> str:
    return (
        f"{name:22s} error {100 * found.mape:5.1f} %   tau {found.tau:5.2f} "
        f"[{found.tau_low:.2f}, {found.tau_high:.2f}]   bias {100 * found.bias:+.1f} %"
    )
