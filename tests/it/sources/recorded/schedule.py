"""Whether a daily window is open, by Python's zoneinfo alone: python3 schedule.py > schedule.json

A start or end at a local time that does not exist is the first moment after the gap; at one that comes twice, the first.
"""
import json
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

UTC = timezone.utc


def instant(day, hour, minute, zone):
    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
    there_and_back = local.astimezone(UTC).astimezone(zone).replace(tzinfo=None)
    if there_and_back == local.replace(tzinfo=None):
        return local.astimezone(UTC)
    # In a gap: the first moment after it is the first whose offset is the later one.
    moment = local.astimezone(UTC) - timedelta(hours=3)
    before = moment.astimezone(zone).utcoffset()
    while moment.astimezone(zone).utcoffset() == before:
        moment += timedelta(minutes=1)
    return moment


def is_open(start, end, at, zone):
    days = [at.astimezone(zone).date() + timedelta(days=n) for n in range(-3, 2)]
    last = lambda time: max(moment for day in days if (moment := instant(day, *time, zone)) <= at)
    return last(end) < last(start)


def main():
    changes = {
        "America/New_York": [date(2026, 3, 8), date(2026, 11, 1)],
        "Europe/Berlin": [date(2026, 3, 29), date(2026, 10, 25)],
        "Australia/Lord_Howe": [date(2026, 10, 4), date(2026, 4, 5)],
        "Asia/Kolkata": [date(2026, 3, 29)],
    }
    windows = [((2, 30), (4, 0)), ((1, 30), (2, 30)), ((0, 0), (3, 0)), ((1, 45), (1, 15)), ((2, 15), (2, 45))]
    vectors = []
    for name, days in changes.items():
        zone = ZoneInfo(name)
        for day in days:
            noon = datetime(day.year, day.month, day.day, 12, tzinfo=zone).astimezone(UTC)
            for start, end in windows:
                for minutes in range(-14 * 60, 0, 45):
                    at = noon + timedelta(minutes=minutes)
                    vectors.append({
                        "zone": name,
                        "start": f"{start[1]} {start[0]} * * *",
                        "end": f"{end[1]} {end[0]} * * *",
                        "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                        "open": is_open(start, end, at, zone),
                    })
    print("[\n" + ",\n".join(json.dumps(vector) for vector in vectors) + "\n]")


main()
