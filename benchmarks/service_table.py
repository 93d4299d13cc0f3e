"""The rows of the service's table, and what each must reach."""

from benchmarks.table import Row, Table

PUT_LEAST = 0.5
GET_LEAST = 1.0
GROWTH_MAX = 1.2
DESCRIBE_MS_MAX = 150

ROWS = (
    Row("put", "PutSnapshotBlock from 8 client threads of boto3, durable when answered, MB/s", ""),
    Row("put_moto", "... of moto's server, which keeps the bytes in memory", "at least 0.5"),
    Row("get", "GetSnapshotBlock, the same, MB/s", ""),
    Row("get_moto", "... of moto's server", "at least 1"),
    Row("list_page", "a page of 10 000 of ListSnapshotBlocks, in the middle of 2 million blocks",
        ""),
    Row("list_growth", "... the last page beside the first", "at most 1.2 times"),
    Row("changed_one", "ListChangedBlocks on a 1 TiB pair, one block apart", ""),
    Row("changed_growth", "... 2000 leaves apart beside 200: the time a leaf",
        "at most 1.2 times"),
    Row("describe_page", "DescribeSnapshots of 10 000 snapshots, a page of 1000, processor time "
        "of the answer", "at most 150 ms"),
    Row("describe_id", "... those of 100 ids, by a filter", "at most 150 ms"),
    Row("describe_volume", "... the 100 of a volume", "at most 150 ms"),
    Row("describe_tag", "... the 100 with a tag", "at most 150 ms"),
    Row("describe_state", "... the 100 in a state", "at most 150 ms"),
)  # fmt: skip

SERVICE = Table("service", ROWS)
