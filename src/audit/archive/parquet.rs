//! Writes the sealed part of a ledger for analysts, as Apache Parquet: a file for each range, a column
//! for each value, typed. Nothing is restored or verified from it; that is what an export is for.

use std::{
    fs::{self, File},
    path::Path,
    sync::Arc,
};

use parquet::{
    basic::{Compression, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};

use super::{
    super::{Checkpoints, reading::rows, tiles::signed, verify::NotVerified},
    Opened, other, private_file,
};
use crate::{
    ledger::{Ledger, Stored, store::private_directory},
    secrets::hex,
};

/// Events of one file.
const RANGE_EVENTS: i64 = 100_000;
/// Names and types of the columns.
const SCHEMA: &str = "message event {
    required int64 position;
    required binary app (STRING);
    required binary stream (STRING);
    required int64 version;
    required binary type (STRING);
    required int64 schema;
    required int64 recorded_at (TIMESTAMP(MICROS, true));
    required binary event_id (STRING);
    required binary metadata (STRING);
    required binary body (STRING);
    optional binary private (STRING);
    required binary leaf (STRING);
    optional binary salt (STRING);
    required boolean erased;
}";

/// Writes the sealed part of a ledger into a folder, which must hold none of these files yet; gives
/// the number of events. What is away is read from the export that holds it.
///
/// # Errors
/// [`NotVerified`] when nothing is sealed, or something cannot be read or written.
pub async fn write_parquet(
    ledger: &Ledger,
    directory: &Path,
    detached: Option<Opened>,
) -> Result<i64, NotVerified> {
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let last = Checkpoints::last(&mut checkout.conn()).await?;
    drop(checkout);
    let events = signed(last.ok_or_else(|| other("nothing was sealed yet"))?.size);
    if let Some(away) = ledger.away().await?.filter(|_| detached.is_none()) {
        return Err(away.fault().into());
    }
    private_directory(directory).map_err(other)?;
    let mut pages = rows(ledger.clone(), events, detached).await?;
    let (mut first, mut next) = (1, 1);
    let mut file: Option<EventsFile> = None;
    while let Some(page) = pages.recv().await {
        let mut page = page?;
        while !page.is_empty() {
            let end = events.min(first + RANGE_EVENTS - 1);
            let room = usize::try_from(end + 1 - next).unwrap_or(usize::MAX);
            let rest = page.split_off(room.min(page.len()));
            if page.first().is_some_and(|row| row.position != next) {
                return Err(other(format!("there is no event at {next}")));
            }
            next += i64::try_from(page.len()).unwrap_or(i64::MAX);
            let open = match file.take() {
                Some(open) => open,
                None => EventsFile::create(directory, first)?,
            };
            let done = tokio::task::spawn_blocking(move || open.write(&page));
            let open = done.await.map_err(other)?.map_err(other)?;
            if next > end {
                open.finish()?;
                first = next;
            } else {
                file = Some(open);
            }
            page = rest;
        }
    }
    match next > events {
        true => Ok(events),
        false => Err(other(format!("there is no event at {next}"))),
    }
}

/// A file on its way; it gets its name once it is whole.
struct EventsFile {
    name: String,
    directory: std::path::PathBuf,
    writer: SerializedFileWriter<File>,
}

impl EventsFile {
    fn create(directory: &Path, first: i64) -> Result<EventsFile, NotVerified> {
        let name = format!("events-{first:012}.parquet");
        if directory.join(&name).exists() {
            return Err(other(format!("{name} is there already")));
        }
        let file = private_file(&directory.join(format!("{name}.part"))).map_err(other)?;
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(other)?);
        let level = ZstdLevel::try_new(3).map_err(other)?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level));
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build()));
        let directory = directory.to_owned();
        Ok(EventsFile { name, directory, writer: writer.map_err(other)? })
    }

    /// Writes a page as a group of rows, column by column.
    fn write(mut self, page: &[Stored]) -> Result<EventsFile, ParquetError> {
        let mut group = self.writer.next_row_group()?;
        numbers(&mut group, page, |row| row.position)?;
        texts(&mut group, page, |row| row.app.clone())?;
        texts(&mut group, page, |row| row.stream.clone())?;
        numbers(&mut group, page, |row| row.version)?;
        texts(&mut group, page, |row| row.name.clone())?;
        numbers(&mut group, page, |row| row.schema)?;
        numbers(&mut group, page, |row| row.recorded_at)?;
        texts(&mut group, page, |row| row.event_id.to_string())?;
        texts(&mut group, page, |row| row.metadata.clone())?;
        texts(&mut group, page, |row| row.body.clone())?;
        maybe(&mut group, page, |row| row.private.clone())?;
        texts(&mut group, page, |row| hex(&row.leaf))?;
        maybe(&mut group, page, |row| row.salt.as_deref().map(hex))?;
        let erased: Vec<bool> = page.iter().map(|row| row.erased.is_some()).collect();
        column::<BoolType>(&mut group, &erased, None)?;
        group.close()?;
        Ok(self)
    }

    fn finish(self) -> Result<(), NotVerified> {
        let file = self.writer.into_inner().map_err(other)?;
        file.sync_all().map_err(other)?;
        let aside = self.directory.join(format!("{}.part", self.name));
        fs::rename(aside, self.directory.join(&self.name)).map_err(other)
    }
}

type Group<'a> = SerializedRowGroupWriter<'a, File>;

fn column<T: DataType>(
    group: &mut Group<'_>,
    values: &[T::T],
    given: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let column = group.next_column()?;
    let mut column = column.ok_or_else(|| ParquetError::General("no such column".to_owned()))?;
    column.typed::<T>().write_batch(values, given, None)?;
    column.close()
}

fn numbers(
    group: &mut Group<'_>,
    page: &[Stored],
    value: impl Fn(&Stored) -> i64,
) -> Result<(), ParquetError> {
    let values: Vec<i64> = page.iter().map(value).collect();
    column::<Int64Type>(group, &values, None)
}

fn texts(
    group: &mut Group<'_>,
    page: &[Stored],
    value: impl Fn(&Stored) -> String,
) -> Result<(), ParquetError> {
    let values: Vec<ByteArray> = page.iter().map(|row| value(row).into_bytes().into()).collect();
    column::<ByteArrayType>(group, &values, None)
}

fn maybe(
    group: &mut Group<'_>,
    page: &[Stored],
    value: impl Fn(&Stored) -> Option<String>,
) -> Result<(), ParquetError> {
    let all: Vec<Option<String>> = page.iter().map(value).collect();
    let given: Vec<i16> = all.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<ByteArray> =
        all.into_iter().flatten().map(|text| text.into_bytes().into()).collect();
    column::<ByteArrayType>(group, &values, Some(&given))
}
