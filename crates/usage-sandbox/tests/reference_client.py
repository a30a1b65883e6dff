#!/usr/bin/env python3
"""Makes every call that works in amieclient 0.4.0, the reference client, against a sandbox.

    python reference_client.py http://127.0.0.1:PORT/api/v1_test

Prints one JSON object: what the client understood of each answer. What it makes of them is held against the sandbox's
own state by tests/it/reference.rs. Not called, because they crash in the client itself: sending storage records
(AttributeError), messages above 768 KiB (AttributeError), clearing failures (IndexError).
"""
import datetime
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "fixtures" / "wire"))
sys.dont_write_bytecode = True

import requests  # noqa: E402
from amieclient import UsageClient  # noqa: E402
from amieclient.usage import ComputeUsageRecord, UsageMessage  # noqa: E402
from amieclient.usage.response import UsageResponseError  # noqa: E402

from made_up import adjustment, compute  # noqa: E402


def record(local_record_id, username="ada"):
    return ComputeUsageRecord(
        username=username, local_project_id="TG-ABC123456", local_record_id=local_record_id,
        resource="testhpc-cpu.testsite.access-ci.org", submit_time="2026-10-02T00:00:00Z",
        start_time="2026-10-02T00:01:00Z", end_time="2026-10-02T01:01:00Z", charge="1.5", node_count=1)


def sent(responses):
    return [response.as_dict() for response in responses]


def raised(call):
    try:
        call()
    except (UsageResponseError, requests.HTTPError) as error:
        return {"type": type(error).__name__, "text": str(error)}
    return None


def main():
    url = sys.argv[1]
    admin = url.split("/api/")[0] + "/sandbox"
    said = {}
    with UsageClient(site_name="TestSite", api_key="not-a-real-key", usage_url=url) as client:
        said["compute"] = sent(client.send(UsageMessage(compute)))
        said["adjustment"] = sent(client.send(UsageMessage(adjustment)))
        said["one"] = sent(client.send(record("one")))
        said["list"] = sent(client.send([record("two"), record("three", username="mallory")]))
        failed = client.get_failed_records()
        said["failed"] = [dict(entry.as_dict(), Type=type(entry.record).__name__) for entry in failed.failed_records]
        now = datetime.datetime.now(datetime.timezone.utc)
        hour = datetime.timedelta(hours=1)
        said["status"] = client.status(from_time=now - hour, to_time=now + hour).as_list()
        naive = now.replace(tzinfo=None)
        said["status_naive"] = client.status(from_time=naive - hour, to_time=naive + hour).as_list()
        said["status_open"] = client.status().as_list()
        said["status_before"] = client.status(to_time=now - hour).as_list()
        requests.post(admin + "/faults", data="refuse-whole@post*1").raise_for_status()
        said["refused_whole"] = raised(lambda: client.send(UsageMessage(compute)))
        requests.post(admin + "/faults", data="html:503@post*1").raise_for_status()
        said["busy"] = raised(lambda: client.send(record("busy")))
        requests.post(admin + "/faults", data="status:500@failed*1\nstatus:500@status*1").raise_for_status()
        said["failed_broken"] = raised(client.get_failed_records)
        said["status_broken"] = raised(client.status)
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
