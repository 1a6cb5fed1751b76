"""Makes the families of prometheus_client, which is an optional package."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aftercommit.tallies import BOUNDS, Times
from aftercommit.windows.metrics.names import Metric

try:
    from prometheus_client import core, exposition, registry
except ImportError as error:
    raise ImportError(
        "Metrics need the package 'prometheus_client', which is not installed.\n"
        "Fix: pip install 'aftercommit[prometheus]'."
    ) from error

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

MAKERS: dict[str, type] = {
    "gauge": core.GaugeMetricFamily,
    "counter": core.CounterMetricFamily,
    "histogram": core.HistogramMetricFamily,
}


class Families:
    """Collects samples of metrics, and yields them as prometheus_client wants them."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._families: dict[str, Any] = {
            one.name: MAKERS[one.kind](
                one.name.removesuffix("_total"), one.help, labels=list(one.labels)
            )
            for one in metrics
        }

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """Add the sample of a gauge or a counter."""
        self._families[metric.name].add_metric(list(labels), value)

    def observe(self, metric: Metric, *labels: str, times: Times) -> None:
        """Add the samples of a histogram."""
        buckets, count = [], 0
        for bound, number in zip((*map(str, BOUNDS), "+Inf"), times.buckets, strict=True):
            count += number
            buckets.append((bound, count))
        self._families[metric.name].add_metric(list(labels), buckets, times.seconds)

    def __iter__(self) -> "Iterator[Family]":
        """Yield those that have a sample."""
        yield from (one for one in self._families.values() if one.samples)


class _Collected(registry.Collector):
    def __init__(self, collect: "Callable[[], Iterator[Family]]") -> None:
        self._collect = collect

    def collect(self) -> "Iterator[Family]":
        """Yield the families."""
        return self._collect()


def exposed(collect: "Callable[[], Iterator[Family]]", *, accept: str = "") -> tuple[bytes, str]:
    """Return the families as text, and the content type of that, as the reader accepts it."""
    encode, content_type = exposition.choose_encoder(accept)
    own = registry.CollectorRegistry(auto_describe=False)
    own.register(_Collected(collect))
    return encode(own), content_type
