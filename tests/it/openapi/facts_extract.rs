//! Extracting facts from the official descriptions.

use serde_json::{Value, json};

use testkit::sim::facts::extract::{Description, LONGEST_ENUMERATION, extract};
use testkit::sim::facts::notation::write;

fn extracted(description: &Description, document: Value) -> String {
    write(&extract(description, &[document]).unwrap())
}

#[test]
fn extracts_the_facts_of_openapi_3() {
    let tree = json!({ "type": "object", "required": ["name"], "properties": {
        "name": { "type": "string", "nullable": true }, "children": { "type": "array", "items": { "$ref": "#/components/schemas/tree" } },
    } });
    let document = json!({
        "openapi": "3.0.3",
        "paths": { "/trees/{path}": {
            "parameters": [{ "name": "path", "in": "path", "required": true, "schema": { "type": "string" }, "x-multi-segment": true }],
            "get": {
                "parameters": [{ "$ref": "#/components/parameters/page" }, { "name": "X-Trace", "in": "header" }],
                "responses": { "200": { "$ref": "#/components/responses/found" }, "304": {}, "415": { "content": { "text/plain": {} } } },
            },
            "post": {
                "requestBody": { "required": true, "content": { "application/json": { "schema": { "allOf": [
                    { "$ref": "#/components/schemas/tree" },
                    { "properties": { "kind": { "type": "string", "enum": ["oak", "elm", null], "nullable": true },
                        "planted": { "type": "string", "format": "date-time", "readOnly": true } }, "required": ["kind"] },
                ] } } } },
                "responses": { "201": { "content": { "application/json": { "schema": { "oneOf": [
                    { "$ref": "#/components/schemas/tree" }, { "type": "array", "items": { "$ref": "#/components/schemas/nullable-tree" } },
                ] } } } }, "204": {} },
            },
        } },
        "components": {
            "parameters": { "page": { "name": "page", "in": "query", "schema": { "type": "integer", "format": "int32" } } },
            "responses": { "found": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/forest" } } } } },
            "schemas": {
                "tree": tree,
                "nullable-tree": { "nullable": true, "allOf": [{ "$ref": "#/components/schemas/tree" }] },
                "height": { "anyOf": [{ "type": "number" }, { "type": "string" }] },
                "forest": { "type": "object", "additionalProperties": { "type": "boolean" }, "properties": {
                    "height": { "$ref": "#/components/schemas/height" },
                    "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                    "nothing": { "type": "object", "additionalProperties": false },
                    "whatever": {},
                } },
            },
        },
    });
    let expected = "
GET /trees/{path...}
  ?page integer
  200 @forest
  304
  415 text

POST /trees/{path...}
  body! object
    children [@tree]
    kind! \"oak\"|\"elm\"|null
    name! string|null
    planted date-time read-only
  201 @tree|[@nullable-tree|null]
  204

object @forest
  height number|string
  labels {string}
  nothing object
  whatever any
  * boolean

object @nullable-tree
  children [@tree]
  name! string|null

object @tree
  children [@tree]
  name! string|null
";
    assert_eq!(extracted(&Description { base: String::new(), rests: Vec::new() }, document), expected);
}

#[test]
fn extracts_the_facts_of_swagger_2() {
    let enumeration: Vec<String> = (0..=LONGEST_ENUMERATION).map(|number| number.to_string()).collect();
    let document = json!({
        "swagger": "2.0",
        "paths": { "/api/{project}/files/{path}": { "put": {
            "parameters": [
                { "name": "project", "in": "path", "required": true, "x-ms-required": false, "type": "string" },
                { "name": "path", "in": "path", "required": true, "type": "string" },
                { "name": "version", "in": "query", "required": true, "type": "string", "enum": ["7.0", "7.1"] },
                { "name": "labels", "in": "query", "type": "array", "items": { "type": "integer" } },
                { "name": "body", "in": "body", "schema": { "$ref": "#/definitions/File" } },
            ],
            "responses": { "200": { "schema": { "type": "array", "items": { "$ref": "#/definitions/File" } } },
                "202": { "schema": { "type": "file" } }, "404": { "$ref": "#/responses/notFound" } },
        } } },
        "responses": { "notFound": {} },
        "definitions": { "File": { "type": "object", "properties": {
            "id": { "type": "string", "format": "uuid" }, "word": { "type": "string", "enum": enumeration }, "mode": { "enum": [4, 6] },
        } } },
    });
    let expected = "null is absent

PUT /files/{path...}
  like /{project}/files/{path...}

PUT /{project}/files/{path...}
  ?labels [integer]
  ?version! \"7.0\"|\"7.1\"
  body @File
  200 [@File]
  202 text
  404

object @File
  id uuid
  mode 4|6
  word string
";
    assert_eq!(extracted(&Description { base: "/api".to_owned(), rests: vec!["/files/{path}".to_owned()] }, document), expected);
}
