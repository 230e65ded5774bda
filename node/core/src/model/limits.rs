//! The bounds of the data model, each with its reason. A deployment may configure lower ones at
//! its edge; these are what every node can store and send.

/// Bytes of an id: long enough for a path or a URL, short enough for a RocksDB key of three.
pub const MAX_ID_BYTES: usize = 256;

/// Bytes of a property, label, metadata or type name, and of a content type. As for ids.
pub const MAX_NAME_BYTES: usize = 256;

/// Levels of arrays and objects in a JSON value. Half of what the parser accepts (128), so that a
/// stored value can always be wrapped and read again.
pub const MAX_JSON_DEPTH: usize = 64;

/// Bytes of one item's content, properties and labels. One item must fit into one request and one
/// replication frame sequence without special handling.
pub const MAX_ITEM_BYTES: usize = 16 * 1024 * 1024;

/// Labels on one entity, those removed included, since their removal has to be remembered.
pub const MAX_LABELS: usize = 1024;

/// Operations in one transaction: bounds the time and memory of an atomic apply.
pub const MAX_OPERATIONS: usize = 1000;

/// Bytes of an idempotency key: room for a UUID with a prefix, or a hash.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;
