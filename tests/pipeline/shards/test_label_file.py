"""Labels in one file: every way to write it, its types, its keys, and what is said of a bad one."""

import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConfigError
from pipeline.shards import label_file


@pytest.fixture
def read(tmp_path):
    """Labels of a file with this content."""

    def start(content, *chosen, on="key"):
        path = tmp_path / "people.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return label_file.read(str(path), on, chosen)

    return start


def values(labels):
    return {name.removeprefix("label_"): v for name, v in labels.columns.to_pydict().items()}


def test_types_are_those_that_most_cells_have(read):
    found = read(
        'key,smile,age,name,ok,id\na,0.5,3,x,true,007\nb,1,4,"y, z",FALSE,008\nc,,NA,,,\n'
        "d,none of these,5,3,true,9\n"
    )
    assert found.types == {
        "label_smile": "double", "label_age": "int64", "label_name": "string", "label_ok": "bool",
        "label_id": "string",
    }  # fmt: skip
    assert values(found)["smile"] == [0.5, 1.0, None, None]
    assert values(found)["name"] == ["x", "y, z", None, "3"]
    assert values(found)["ok"] == [True, False, None, True]
    assert found.misfits == {"smile": 1}
    assert found.of("./b.jpg") == {
        "label_smile": 1.0, "label_age": 4, "label_name": "y, z", "label_ok": False,
        "label_id": "008",
    }  # fmt: skip
    assert found.of("nobody") == {}


def test_as_european_spreadsheets_write_it(read):
    found = read('\ufeffkey;smile;told\r\na.jpg;0,5;"two\r\nlines; and more"\r\n./b;1;\r\n')
    assert found.keys.to_pylist() == ["a", "b"]
    assert values(found) == {"smile": [0.5, 1.0], "told": ["two\r\nlines; and more", None]}
    assert values(read("key\ta\nx\t1,5\n")) == {"a": ["1,5"]}


def test_chosen_columns_and_declared_types(read):
    text = "key,a,b,c\nx,1,2,yes\ny,2,3,no\n"
    assert read(text, "a=float", "c").types == {"label_a": "double", "label_c": "string"}
    assert read(text, "b").columns.column_names == ["label_b"]
    # Whole numbers that 64 bits do not hold are no whole numbers.
    assert values(read("key,a\nx,1\ny,99999999999999999999\n", "a=int")) == {"a": [1, None]}


def test_parquet_keeps_its_types_and_leaves_out_what_is_no_label(tmp_path):
    table = pa.table({
        "key": ["a", "b"], "n": pa.array([1, 2], pa.uint8()), "list": [[1], [2]],
        "word": pa.array(["x", "y"]).dictionary_encode(), "x": pa.array([1.5, 2], pa.float32()),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "people.parquet")
    found = label_file.read(str(tmp_path / "people.parquet"), "key")
    assert found.types == {"label_n": "int64", "label_word": "string", "label_x": "double"}
    assert found.left_out == ("list",)
    whole = label_file.read(str(tmp_path / "people.parquet"), "key", ["x=int", "word"])
    assert values(whole) == {"x": [None, 2], "word": ["x", "y"]}
    again = pickle.loads(pickle.dumps(found))
    joined = again.joined(pa.chunked_array([["b", "c"]]), ["label_n", "label_x"])
    assert joined.to_pydict() == {"label_n": [2, None], "label_x": [2.0, None]}
    with pytest.raises(ConfigError, match=r"the column 'list' .* is list<.*labels are numbers"):
        label_file.read(str(tmp_path / "people.parquet"), "key", ["list"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("key,a\nx,1\nx.png,2\n", r"has the key 'x' twice \(rows 1 and 2\)"),
        ("key,a\nx,1,2\n", "Expected 2 columns, got 3"),
        (b"key,a\n\xff,1\n", "is no CSV in UTF-8; save it as UTF-8"),
        ("", "does not begin with the names of its columns"),
        ("key,a\n,1\n", "has no key in its column 'key'"),
        ("key\nx\n", "has 0 columns of labels beside key"),
        ("key,a,a\nx,1,2\n", "has two columns 'a'"),
        ("name,a\nx,1\n", "has no column 'key'; it has 'name', 'a'"),
        (b"PAR1 and no more", "cannot be read .*; pass a CSV or Parquet file"),
    ],
)
def test_what_cannot_be_used_says_why(read, content, says):
    with pytest.raises(ConfigError, match=says):
        read(content)


def test_choices_that_cannot_be(read, tmp_path):
    for chosen, says in (
        ("b", "has no column 'b'"),
        ("a=number", r"a type where it is to be one \(a=float; float, int, bool, str\)"),
        ("a.b", r"the column 'a.b' .* cannot be a label; rename it there"),
    ):
        with pytest.raises(ConfigError, match=says):
            read("key,a,a.b\nx,1,2\n", chosen)
    assert read("key,a,a.b\nx,1,2\n").left_out == ("a.b",)
    with pytest.raises(ConfigError, match="the labels in .* cannot be read"):
        label_file.read(str(tmp_path), "key")
    with pytest.raises(ConfigError, match="no labels at .*absent.csv; check the path"):
        label_file.read(str(tmp_path / "absent.csv"), "key")
    with pytest.raises(ConfigError, match="not read for labels; download it"):
        label_file.read("https://host/people.csv", "key")
