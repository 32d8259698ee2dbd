//! The description of the server API, OpenAPI 3.1. It is a file, so that nothing makes it while weir
//! runs; a test makes it from the methods and from the types that requests are read into, and holds
//! the file against that.

/// The document, as it is served.
pub const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use schemars::generate::SchemaSettings;
    use schemars::{JsonSchema, SchemaGenerator};
    use serde_json::{Map, Value, json};

    use super::super::{Method, reply, request};
    use super::*;

    /// What a method is asked, and what it answers with.
    fn shapes(method: Method, of: &mut SchemaGenerator) -> (Value, Value) {
        fn pair<Q: JsonSchema, R: JsonSchema>(of: &mut SchemaGenerator) -> (Value, Value) {
            (of.subschema_for::<Q>().to_value(), of.subschema_for::<R>().to_value())
        }
        match method {
            Method::Publish => pair::<request::PublishRequest<'_>, reply::PublishResult>(of),
            Method::Broadcast => pair::<request::BroadcastRequest<'_>, reply::BroadcastResult>(of),
            Method::Subscribe => pair::<request::SubscribeRequest<'_>, reply::Done>(of),
            Method::Unsubscribe => pair::<request::UnsubscribeRequest<'_>, reply::Done>(of),
            Method::Disconnect => pair::<request::DisconnectRequest<'_>, reply::Done>(of),
            Method::Refresh => pair::<request::RefreshRequest<'_>, reply::Done>(of),
            Method::Presence => pair::<request::ChannelRequest<'_>, reply::PresenceResult<'_>>(of),
            Method::PresenceStats => {
                pair::<request::ChannelRequest<'_>, reply::PresenceStatsResult>(of)
            }
            Method::History => pair::<request::HistoryRequest<'_>, reply::HistoryResult<'_>>(of),
            Method::HistoryRemove => pair::<request::ChannelRequest<'_>, reply::Done>(of),
            Method::Channels => pair::<request::ChannelsRequest<'_>, reply::ChannelsResult<'_>>(of),
            Method::Info => pair::<request::InfoRequest, reply::InfoResult>(of),
            Method::Batch => pair::<request::BatchRequest<'_>, reply::BatchResult>(of),
        }
    }

    fn content(schema: Value) -> Value {
        json!({ "application/json": { "schema": schema } })
    }

    /// One path: a POST whose answer is a result or an error.
    fn path(method: Method, of: &mut SchemaGenerator) -> Value {
        let (asked, result) = shapes(method, of);
        let error = of.subschema_for::<reply::Error>().to_value();
        let object = |name: &str, of: Value| json!({ "type": "object", "required": [name], "properties": { name: of } });
        let failed = object("error", error);
        // The one whose result has no wrapper.
        let good = if method == Method::Batch { result } else { object("result", result) };
        json!({ "post": {
            "operationId": method.as_str(),
            "summary": method.about().trim(),
            "requestBody": { "required": true, "content": content(asked) },
            "responses": {
                "200": {
                    "description": "The result; or an error, unless errors have a status.",
                    "content": content(json!({ "oneOf": [good, failed] })),
                },
                "400": {
                    "description": "The body is not JSON.",
                    "content": content(failed.clone()),
                },
                "401": { "description": "No key, or one that nobody knows." },
                "default": {
                    "description": "An error, where errors have a status.",
                    "content": content(failed),
                },
            },
        }})
    }

    fn made() -> String {
        let settings = SchemaSettings::draft2020_12()
            .with(|s| s.definitions_path = "/components/schemas".into());
        let mut of = settings.into_generator();
        let paths: Map<String, Value> = Method::ALL
            .iter()
            .map(|method| (format!("/{}", method.as_str()), path(*method, &mut of)))
            .collect();
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "weir, the server API of channels",
                "version": env!("CARGO_PKG_VERSION"),
                "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            },
            "servers": [{ "url": "/api" }],
            "security": [{ "key": [] }, { "authorization": [] }, { "query": [] }],
            "paths": paths,
            "components": {
                "securitySchemes": {
                    "key": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
                    "authorization": {
                        "type": "apiKey",
                        "in": "header",
                        "name": "Authorization",
                        "description": "The word \"apikey\", a space, and the key.",
                    },
                    "query": { "type": "apiKey", "in": "query", "name": "api_key" },
                },
                "schemas": of.take_definitions(true),
            },
        });
        serde_json::to_string_pretty(&document).unwrap() + "\n"
    }

    #[test]
    fn the_document_is_what_the_methods_and_their_types_say() {
        let made = made();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi.json"), &made)
                .unwrap();
        }
        assert!(made == DOCUMENT, "UPDATE_GOLDEN=1 makes src/api/openapi.json anew");
    }

    #[test]
    fn every_reference_of_the_document_is_there() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let pointer = reference.trim_start_matches('#');
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    fields.values().for_each(|field| check(field, document));
                }
                Value::Array(values) => values.iter().for_each(|value| check(value, document)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        check(&document, &document);
        assert_eq!(document["paths"].as_object().unwrap().len(), Method::ALL.len());
    }
}
