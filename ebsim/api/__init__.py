"""The AWS APIs over HTTP.  How to add an action:

1.  Write a plain function in the module of its group, ``ebsim/api/SERVICE/GROUP.py``::

        def lock(call: Call, params: Params) -> Answer:
            \"\"\"Lock a snapshot.\"\"\"
            name = ids.snapshot_id(params["SnapshotId"])
            locked = lock_snapshot(call.region, name, mode=params["LockMode"])
            return {"SnapshotId": name, "LockState": locked.state.value}

    ``params`` has the names that boto3 uses and is checked already: required members are
    there, types, limits, patterns and choices are the model's.  Times are aware datetimes,
    blobs bytes.  ``call.region`` is the region that the request names, with the caller as
    the acting account; ``call.region_named(name)`` another one.  All work is done in this
    thread; the event loop is elsewhere.

2.  List it at the end of the module, with every member of its input that it heeds::

        ACTIONS = (action("LockSnapshot", lock, "SnapshotId", "LockMode"),)

    A member that is not listed is refused by name before the function is called: list what
    the function reads, and nothing else.  ``"A.B"`` supports only that member of ``A``.
    ``DryRun`` is answered for you.  Names that begin with Describe, Get or List change
    nothing and make no region; every other action makes its region's store.

3.  Name the module in ``registry.GROUPS``; a service's name there is botocore's.  A new
    service needs no more than that: ``ec2``, ``query``, ``rest-json`` and ``json`` are
    parsed and written from the model.

4.  Return members by the names that boto3 uses; ``None`` leaves one out (the services in
    ``json_answer.EXPLICIT_NULLS`` write null).  A member that the model does not have is a
    bug, and fails.  Times are datetimes (``clock.to_datetime``).

5.  What Amazon does behind, after the answer, is begun with ``call.work.begin`` (``work.py``;
    ``ec2/snapshots.py`` shows it): the verb runs in a thread and announces what to answer.
    What the server does by itself, now and then, is a function in ``chores.CHORES``.
    Volumes that it makes or attaches are named to ``call.look_after``, which serves and loads.

6.  Let the engine's errors pass: ``error_codes.py`` gives each class its code, by service.
    Add a class there when Amazon has a code for it; raise ``faults.ApiError(code, message,
    status=..., fields={"Reason": ...})`` only for what concerns the request alone.

Ids in requests are whole, and go through ``ec2/ids.py`` first: the engine's verbs accept
beginnings of ids, which no AWS API does.  Filters, pages, tags: ``ec2/shapes.py`` and
``ec2/matching.py``.

Tests: ``tests/api/conftest.py`` has ``client("ec2")``, a real boto3 client that is answered
in this process, as any account and in any region (``client("ec2", OTHER_ACCOUNT)``); the
fixture ``serve`` starts the real server, for the few tests that need one.
"""
