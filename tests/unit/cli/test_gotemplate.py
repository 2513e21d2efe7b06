"""Templates as --format uses them."""

from __future__ import annotations

import pytest
from cove.cli.gotemplate import Template, TemplateError

DATA = {
    "Name": "web",
    "Number": 3,
    "Empty": "",
    "On": True,
    "List": ["a", "b"],
    "None": None,
    "Labels": {"z": "1", "a.b": "2"},
    "State": {"Status": "running", "Deep": {"x": 1.5}},
    "Items": [{"Id": "i"}, {"Id": "j"}],
    "Label": lambda key: {"z": "1"}.get(key, ""),
}


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("{{ .State.Deep.x }}", "1.5"),
        ("{{.On}} {{.Number}}", "true 3"),
        ("{{.List}}", "[a b]"),
        ("{{.Labels}}", "map[a.b:2 z:1]"),
        ("{{.None}}", "<no value>"),
        ('{{index .Labels "a.b"}}', "2"),
        ("{{index .List 1}}", "b"),
        ("{{json .List}}", '["a","b"]'),
        ("{{json .Labels}}", '{"z":"1","a.b":"2"}'),
        ('{{join .List ","}}', "a,b"),
        ("{{upper .Name}}", "WEB"),
        ("{{.Name | upper | lower}}", "web"),
        ("{{len .List}}", "2"),
        ("{{println .Name}}", "web\n"),
        ('{{printf "%s-%d %q" .Name .Number .Name}}', 'web-3 "web"'),
        ('{{.Label "z"}}', "1"),
        ("{{if .On}}yes{{else}}no{{end}}", "yes"),
        ("{{if .Empty}}yes{{else if .On}}second{{else}}no{{end}}", "second"),
        ("{{range .List}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $v := .List}}{{$i}}={{$v}};{{end}}", "0=a;1=b;"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a.b=2;z=1;"),
        ("{{range .Items}}{{.Id}}{{$.Name}}{{end}}", "iwebjweb"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{with .State}}{{.Status}}{{end}}", "running"),
        ("{{$x := .Name}}{{$x}}", "web"),
        ("a {{- .Name -}} b", "awebb"),
        ("{{/* note */}}x", "x"),
        ('{{if and .On (eq .Name "web")}}both{{end}}', "both"),
        ('{{or .Empty "default"}}', "default"),
        ("{{(index .Items 0).Id}}", "i"),
        ("{{if gt .Number 2}}more{{end}}", "more"),
        ("{{slice .Name 0 2}}", "we"),
        ('{{"}}"}}', "}}"),
        ("{{title .Name}}", "Web"),
        ('{{split "a-b" "-"}}', "[a b]"),
    ],
)
def test_renders(source: str, result: str) -> None:
    assert Template(source).render(DATA, str) == result


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{", "template: :1: unclosed action"),
        ("{{.A", "template: :1: unclosed action"),
        ("{{nosuch .Name}}", 'template: :1: function "nosuch" not defined'),
        ("{{if .A}}", "template: :1: unexpected EOF"),
        ("{{}}", "template: :1: missing value for command"),
    ],
)
def test_refuses_to_parse(source: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(source)
    assert caught.value.message == message


def test_says_what_is_missing() -> None:
    with pytest.raises(TemplateError) as caught:
        Template("{{.Foo}}").render(DATA, lambda name: f'map has no entry for key "{name}"')
    assert caught.value.message == 'template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"'
    with pytest.raises(TemplateError):
        Template("{{.Name.First}}").render(DATA, str)
    with pytest.raises(TemplateError):
        Template("{{index .List 9}}").render(DATA, str)


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("{{.Foo}}", ":1:2: <.Foo>"),
        ("a {{.Name}} {{json .Foo}}", ":1:19: <.Foo>"),
        ("x\n {{.Foo}}", ":2:3: <.Foo>"),
        ("{{- .Foo -}}", ":1:4: <.Foo>"),
        ("{{.Foo.Bar}}", ":1:6: <.Foo.Bar>"),
        ("{{with .Name}}{{$.Foo}}{{end}}", ":1:17: <$.Foo>"),
        ("{{if true}}{{  .Foo }}{{end}}", ":1:15: <.Foo>"),
        ("{{if false}}{{else if .Foo}}{{end}}", ":1:22: <.Foo>"),
        ("{{range $k, $v := .Foo}}{{end}}", ":1:18: <.Foo>"),
    ],
)
def test_says_where_a_mistake_is(source: str, where: str) -> None:
    place, _, name = where.partition(" ")
    with pytest.raises(TemplateError) as caught:
        Template(source).render(DATA, lambda name: f"no {name}")
    assert caught.value.message == f'template: {place} executing "" at {name}: no Foo'
