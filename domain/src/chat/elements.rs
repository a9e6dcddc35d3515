//! What a message is made of (`MsgBody`): a list of elements of eight kinds, each with fields of its
//! own. The names are those of Tencent's document "消息格式描述" (formats of messages).

use serde::Deserialize;
use serde_json::Value;

/// The elements of a message, understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Elements {
    /// What a push vendor shows of them, unless the sender says otherwise; none for data alone.
    pub shown: Option<String>,
    /// All that a person reads, for lists of words.
    pub text: String,
    /// What the sender's own element hands to the app on the device.
    pub ext: Option<String>,
    /// The sound that the sender's own element asks for.
    pub sound: Option<String>,
}

/// The elements are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not a list.
    #[error("MsgBody must be an array")]
    NotAList,
    /// One is not an object with a kind and a content.
    #[error("an element must have MsgType and MsgContent")]
    NotAnElement,
    /// There is none, one of no known kind, one whose content is not of its kind, or more than one
    /// of the sender's own.
    #[error("an element of MsgBody is not of its format")]
    Content,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Text,
    Whole,
    Number,
    /// The number 2: the only way of downloading.
    Two,
    Images,
}

/// A field: its name, what it holds, and whether it must be there.
type Field = (&'static str, Is, bool);

const TEXT: &str = "TIMTextElem";
const LOCATION: &str = "TIMLocationElem";
const FACE: &str = "TIMFaceElem";
const CUSTOM: &str = "TIMCustomElem";
const SOUND: &str = "TIMSoundElem";
const IMAGE: &str = "TIMImageElem";
const FILE: &str = "TIMFileElem";
const VIDEO: &str = "TIMVideoFileElem";

/// Fields by kind. Where it lies is missing in what older clients send, so those may be absent.
const KINDS: [(&str, &[Field]); 8] = [
    (TEXT, &[("Text", Is::Text, true)]),
    (
        LOCATION,
        &[
            ("Desc", Is::Text, false),
            ("Latitude", Is::Number, true),
            ("Longitude", Is::Number, true),
        ],
    ),
    (FACE, &[("Index", Is::Whole, true), ("Data", Is::Text, false)]),
    (
        CUSTOM,
        &[
            ("Data", Is::Text, false),
            ("Desc", Is::Text, false),
            ("Ext", Is::Text, false),
            ("Sound", Is::Text, false),
        ],
    ),
    (
        SOUND,
        &[
            ("UUID", Is::Text, true),
            ("Size", Is::Whole, true),
            ("Second", Is::Whole, true),
            ("Url", Is::Text, false),
            ("Download_Flag", Is::Two, false),
        ],
    ),
    (
        IMAGE,
        &[
            ("UUID", Is::Text, true),
            ("ImageFormat", Is::Whole, true),
            ("ImageInfoArray", Is::Images, true),
        ],
    ),
    (
        FILE,
        &[
            ("UUID", Is::Text, true),
            ("FileSize", Is::Whole, true),
            ("FileName", Is::Text, true),
            ("Url", Is::Text, false),
            ("Download_Flag", Is::Two, false),
        ],
    ),
    (
        VIDEO,
        &[
            ("VideoUUID", Is::Text, true),
            ("VideoSize", Is::Whole, true),
            ("VideoSecond", Is::Whole, true),
            ("VideoFormat", Is::Text, true),
            ("VideoUrl", Is::Text, false),
            ("VideoDownloadFlag", Is::Two, false),
            ("ThumbUUID", Is::Text, true),
            ("ThumbSize", Is::Whole, true),
            ("ThumbWidth", Is::Whole, true),
            ("ThumbHeight", Is::Whole, true),
            ("ThumbFormat", Is::Text, true),
            ("ThumbUrl", Is::Text, false),
            ("ThumbDownloadFlag", Is::Two, false),
        ],
    ),
];

/// Formats of images, and the kinds of one image.
const FORMATS: [u64; 5] = [1, 2, 3, 4, 255];
const SIZES: [u64; 3] = [1, 2, 3];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Element {
    msg_type: String,
    msg_content: serde_json::Map<String, Value>,
}

impl Elements {
    /// Understands the JSON text of a `MsgBody`.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn parse(body: &str) -> Result<Elements, Malformed> {
        let list: Vec<Value> = serde_json::from_str(body).map_err(|_| Malformed::NotAList)?;
        let mut elements = Elements::default();
        let (mut shown, mut own) = (String::new(), 0);
        for element in &list {
            let object = element.is_object().then_some(element).ok_or(Malformed::NotAnElement)?;
            let element = Element::deserialize(object).map_err(|_| Malformed::NotAnElement)?;
            let content = &element.msg_content;
            let kind = KINDS.iter().find(|(name, _)| *name == element.msg_type);
            let (name, fields) = kind.ok_or(Malformed::Content)?;
            if !fields.iter().all(|field| holds(content, *field)) {
                return Err(Malformed::Content);
            }
            let text = |name: &str| content.get(name).and_then(Value::as_str).unwrap_or_default();
            match *name {
                TEXT => {
                    elements.text += text("Text");
                    elements.text.push('\n');
                    shown += text("Text");
                }
                CUSTOM => {
                    own += 1;
                    shown += text("Desc");
                    let some = |name| Some(text(name).to_owned()).filter(|text| !text.is_empty());
                    (elements.ext, elements.sound) = (some("Ext"), some("Sound"));
                }
                LOCATION => shown += "[位置]",
                FACE => shown += "[表情]",
                SOUND => shown += "[语音]",
                IMAGE => shown += "[图片]",
                FILE => shown += "[文件]",
                _ => shown += "[视频]",
            }
        }
        if list.is_empty() || own > 1 {
            return Err(Malformed::Content);
        }
        elements.shown = Some(shown).filter(|shown| !shown.is_empty());
        Ok(elements)
    }
}

/// Whether a content has a field as it must be.
fn holds(content: &serde_json::Map<String, Value>, (name, is, needed): Field) -> bool {
    let Some(value) = content.get(name) else { return !needed };
    match is {
        Is::Text => value.is_string(),
        Is::Whole if name == "ImageFormat" => one_of(value, &FORMATS),
        Is::Whole => value.is_u64(),
        Is::Number => value.is_number(),
        Is::Two => value.as_u64() == Some(2),
        Is::Images => value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(image)),
    }
}

fn image(image: &Value) -> bool {
    let sizes = ["Size", "Width", "Height"];
    one_of(&image["Type"], &SIZES)
        && sizes.iter().all(|name| image[*name].is_u64())
        && image["URL"].is_string()
}

fn one_of(value: &Value, known: &[u64]) -> bool {
    value.as_u64().is_some_and(|number| known.contains(&number))
}
