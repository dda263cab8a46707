"""The first examples of a prepared dataset of TFDS, where commands are run for other things."""

import json


def cut_copy(source, target, counts):
    """A prepared folder with so many examples of each split.

    Args:
        source: the prepared VERSION folder of a dataset, in ArrayRecord files.
        target: the folder to make.
        counts: how many examples of each split are kept.
    """
    from array_record.python.array_record_data_source import ArrayRecordDataSource
    from array_record.python.array_record_module import ArrayRecordWriter

    target.mkdir(parents=True)
    info = json.loads((source / "dataset_info.json").read_text())
    for path in source.glob("*.txt"):
        (target / path.name).write_bytes(path.read_bytes())
    (target / "features.json").write_bytes((source / "features.json").read_bytes())
    for split in info["splits"]:
        begins = f"{info['name']}-{split['name']}.array_record"
        files = sorted(str(path) for path in source.glob(f"{begins}-*"))
        records = ArrayRecordDataSource(files).__getitems__(range(counts[split["name"]]))
        writer = ArrayRecordWriter(str(target / f"{begins}-00000-of-00001"), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
        split["shardLengths"] = [str(len(records))]
        split["numBytes"] = str(sum(map(len, records)))
    (target / "dataset_info.json").write_text(json.dumps(info))
