"""What iperf3 says."""

from __future__ import annotations

import json

import pytest

from flannelette.benchmarks import iperf
from flannelette.benchmarks.iperf import Stream
from flannelette.benchmarks.netns import RigError


def test_the_receiver_s_sum_counts() -> None:
    sent = {"bytes": 9, "bits_per_second": 9.0}
    received = {"bytes": 123, "seconds": 1.0, "bits_per_second": 984.5}
    document = {"end": {"sum_sent": sent, "sum_received": received}}
    assert iperf.parse(json.dumps(document)) == Stream(123, 984.5)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "iperf3 ended without a result"),
        ('{"end": ', "iperf3 ended without a result"),
        (
            '{"end": {}, "error": "unable to connect to server"}',
            "iperf3: unable to connect to server",
        ),
        ('{"end": {}}', "iperf3's result is not understood"),
        ('{"end": {"sum_received": []}}', "iperf3's result is not understood"),
        ("[]", "iperf3's result is not understood"),
        ('{"end": {"sum_received": {"bytes": 0, "bits_per_second": 0}}}', "no bytes"),
    ],
)
def test_what_is_no_result(text: str, complaint: str) -> None:
    with pytest.raises(RigError, match=complaint):
        iperf.parse(text)
