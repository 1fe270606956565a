"""Tables as parquet: columns of one type each, where a missing number is null."""

import io
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any


def packed(types: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The file of rows whose columns are of these types: ``"str"``, ``"int64"`` or ``"float64"``."""
    pyarrow, parquet = _pyarrow()
    known: dict[str, Callable[[], Any]] = {"str": pyarrow.string, "int64": pyarrow.int64, "float64": pyarrow.float64}
    schema = pyarrow.schema([(name, known[kind]()) for name, kind in types.items()])
    try:
        table = pyarrow.Table.from_pylist(list(rows), schema)
    except (pyarrow.ArrowException, OverflowError) as error:  # a seed of more than 63 bits
        raise ValueError(f"parquet can't hold these rows: {error}.") from error
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def unpacked(data: bytes) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a file, and its rows in the words of a CSV file."""
    pyarrow, parquet = _pyarrow()
    try:
        table = parquet.read_table(pyarrow.BufferReader(data))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(str(error).splitlines()[0].removesuffix(".")) from error
    rows = [{name: "" if value is None else str(value) for name, value in row.items()} for row in table.to_pylist()]
    return table.column_names, rows


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("parquet needs pyarrow: pip install 'sparsedd[parquet]'.") from error
    return pyarrow, parquet
