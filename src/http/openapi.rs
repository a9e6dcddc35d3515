//! The description of the API, generated from the handlers and from the protocol's own tables. The
//! copy in the repository is compared with it by a test.

use std::sync::LazyLock;

use axum::http::Method;
use utoipa::{
    OpenApi,
    openapi::{
        self, HttpMethod, PathItem, Ref,
        path::{OperationBuilder, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        response::ResponseBuilder,
        schema::{ObjectBuilder, Type},
    },
};

use super::{
    admin::{
        access, addresses, apps, audit, callbacks, erasures, events, export, messages, operators,
        owners, tokens, views, webhooks,
    },
    antelope::interface as antelope,
    easemob::interface as easemob,
    tencent::interface as tencent,
    ums::codes::{Code, Interface},
    uplink,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "pushledger",
        description = "An event-sourced push-messaging server. Admin and Easemob calls take a bearer token, each of its own kind; UMS calls are signed; Antelope calls show an app's key or a device's token; Tencent calls an account's signature. Any command that changes an app, its owners, devices or messages takes an Idempotency-Key; access tokens and operators do not, since their replies hold secrets. A reply's Ledger-Position says which position includes its effect."
    ),
    paths(
        apps::create,
        apps::list,
        apps::read,
        apps::change,
        apps::delete,
        tokens::issue,
        addresses::of_account,
        addresses::of_device,
        owners::set,
        owners::remove,
        messages::recall,
        messages::replace,
        operators::create,
        operators::list,
        operators::withdraw,
        webhooks::create,
        webhooks::list,
        webhooks::delete,
        webhooks::rotate,
        webhooks::enable,
        callbacks::list,
        callbacks::receivers,
        callbacks::replay,
        erasures::erase,
        erasures::list,
        views::status,
        views::rebuild,
        views::cancel,
        views::set_aside,
        events::read,
        export::read,
        access::list,
        audit::checkpoint,
        audit::keys,
        audit::inclusion,
        audit::consistency,
        uplink::messages
    )
)]
struct Described;

/// The document as JSON text.
#[must_use]
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut document = Described::openapi();
        describe_ums(&mut document);
        describe_easemob(&mut document);
        describe_antelope(&mut document);
        describe_tencent(&mut document);
        document.to_pretty_json().unwrap_or_default() + "\n"
    });
    &TEXT
}

fn describe_ums(document: &mut openapi::OpenApi) {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let envelope = ObjectBuilder::new()
        .property("retCode", text().description(Some("`00000` is success")))
        .property("retInfo", text())
        .property("data", ObjectBuilder::new().description(Some("what the call answers, or null")));
    let components = document.components.get_or_insert_default();
    components.schemas.insert("UmsEnvelope".to_owned(), envelope.into());
    for interface in Interface::ALL {
        let codes =
            interface.listed().iter().map(|code| format!("`{}` {}", code.code(), code.info()));
        let codes: Vec<_> =
            std::iter::once(format!("`00000` {}", Code::Success.info())).chain(codes).collect();
        let response = ResponseBuilder::new().description(codes.join("; ")).content(
            "application/json",
            openapi::Content::new(Some(Ref::from_schema_name("UmsEnvelope"))),
        );
        let any = ObjectBuilder::new().schema_type(Type::Object);
        let body = RequestBodyBuilder::new()
            .description(Some("See docs/protocols/haier-ums-v2.md"))
            .content("application/json", openapi::Content::new(Some(any)));
        let mut operation = OperationBuilder::new()
            .tag("ums")
            .summary(Some(format!("{interface:?}")))
            .request_body(Some(body.build()))
            .response("200", response);
        let mut headers = vec!["appId", "timestamp", "sign"];
        if !interface.of_cloud() {
            headers.push("clientId");
        }
        for name in headers {
            let header = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Header)
                .required(openapi::Required::True)
                .schema(Some(text()));
            operation = operation.parameter(header);
        }
        let item = PathItem::new(HttpMethod::Post, operation);
        document.paths.paths.insert(interface.path().to_owned(), item);
    }
}

fn describe_easemob(document: &mut openapi::OpenApi) {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let number = || ObjectBuilder::new().schema_type(Type::Integer);
    let refusal = ObjectBuilder::new()
        .property("error", text().description(Some("what to branch on")))
        .property("exception", text())
        .property("error_description", text())
        .property("timestamp", number())
        .property("duration", number());
    let components = document.components.get_or_insert_default();
    components.schemas.insert("EasemobRefusal".to_owned(), refusal.into());
    let any = || ObjectBuilder::new().schema_type(Type::Object);
    for interface in easemob::Interface::all() {
        let path = format!("/{{org}}/{{app}}/{}", interface.path());
        let refused = ResponseBuilder::new().description("A refusal").content(
            "application/json",
            openapi::Content::new(Some(Ref::from_schema_name("EasemobRefusal"))),
        );
        let success = ResponseBuilder::new()
            .description("See docs/protocols/easemob-push.md")
            .content("application/json", openapi::Content::new(Some(any())));
        let mut operation = OperationBuilder::new()
            .tag("easemob")
            .summary(Some(format!("{interface:?}")))
            .response("200", success)
            .response("default", refused);
        if interface.reads_body() {
            let body = RequestBodyBuilder::new()
                .description(Some("See docs/protocols/easemob-push.md"))
                .content("application/json", openapi::Content::new(Some(any())));
            operation = operation.request_body(Some(body.build()));
        }
        let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        for name in names {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(openapi::Required::True)
                .schema(Some(text()));
            operation = operation.parameter(parameter);
        }
        let method = match interface.method().as_str() {
            "GET" => HttpMethod::Get,
            "PUT" => HttpMethod::Put,
            "DELETE" => HttpMethod::Delete,
            _ => HttpMethod::Post,
        };
        let item = document.paths.paths.entry(path).or_default();
        item.merge_operations(PathItem::new(method, operation));
    }
}

fn describe_antelope(document: &mut openapi::OpenApi) {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let refusal = ObjectBuilder::new()
        .property("request_id", text())
        .property("error", text().description(Some("what is wrong, for people")))
        .property("message_id", text().description(Some("the first message of that request_id")));
    let components = document.components.get_or_insert_default();
    components.schemas.insert("AntelopeRefusal".to_owned(), refusal.into());
    let any = || ObjectBuilder::new().schema_type(Type::Object);
    for interface in antelope::Interface::ALL {
        let refused = ResponseBuilder::new().description("A refusal").content(
            "application/json",
            openapi::Content::new(Some(Ref::from_schema_name("AntelopeRefusal"))),
        );
        let success = ResponseBuilder::new()
            .description("See docs/protocols/antelope.md")
            .content("application/json", openapi::Content::new(Some(any())));
        let mut operation = OperationBuilder::new()
            .tag("antelope")
            .summary(Some(format!("{interface:?}")))
            .response("200", success)
            .response("default", refused);
        let credentials: &[&str] =
            if interface.of_device() { &["X-Client-Token"] } else { &["X-APP-ID", "X-APP-Key"] };
        for name in credentials {
            let header = ParameterBuilder::new()
                .name(*name)
                .parameter_in(ParameterIn::Header)
                .required(openapi::Required::True)
                .schema(Some(text()));
            operation = operation.parameter(header);
        }
        let method = if interface.method() == Method::GET {
            HttpMethod::Get
        } else {
            let body = RequestBodyBuilder::new()
                .description(Some("See docs/protocols/antelope.md"))
                .content("application/json", openapi::Content::new(Some(any())));
            operation = operation.request_body(Some(body.build()));
            HttpMethod::Post
        };
        let item = document.paths.paths.entry(interface.path().to_owned()).or_default();
        item.merge_operations(PathItem::new(method, operation));
    }
}

fn describe_tencent(document: &mut openapi::OpenApi) {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let answer = ObjectBuilder::new()
        .property("ActionStatus", text().description(Some("`OK`, `FAIL` or `SomeError`")))
        .property("ErrorInfo", text().description(Some("what is wrong, for people")))
        .property("ErrorCode", ObjectBuilder::new().schema_type(Type::Integer));
    let components = document.components.get_or_insert_default();
    components.schemas.insert("TencentAnswer".to_owned(), answer.into());
    for interface in tencent::Interface::ALL {
        let answered = ResponseBuilder::new()
            .description("See docs/protocols/tencent-im.md; `ErrorCode` 0 is success")
            .content(
                "application/json",
                openapi::Content::new(Some(Ref::from_schema_name("TencentAnswer"))),
            );
        let any = ObjectBuilder::new().schema_type(Type::Object);
        let body = RequestBodyBuilder::new()
            .description(Some("See docs/protocols/tencent-im.md"))
            .content("application/json", openapi::Content::new(Some(any)));
        let mut operation = OperationBuilder::new()
            .tag("tencent")
            .summary(Some(format!("{interface:?}")))
            .request_body(Some(body.build()))
            .response("200", answered);
        for name in ["sdkappid", "identifier", "usersig", "random", "contenttype"] {
            let required = match name {
                "random" | "contenttype" => openapi::Required::False,
                _ => openapi::Required::True,
            };
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(required)
                .schema(Some(text()));
            operation = operation.parameter(parameter);
        }
        let item = PathItem::new(HttpMethod::Post, operation);
        document.paths.paths.insert(interface.path().to_owned(), item);
    }
}
