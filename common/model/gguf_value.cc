#include "common/model/gguf_value.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

// Bytes of one value; for a string the fewest it can take, which is its length field.
uint64_t MinimumBytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kString:
    case GgufType::kArray:
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
  }
  return 8;
}

absl::StatusOr<GgufType> ReadType(ByteReader& reader) {
  KVEC_ASSIGN_OR_RETURN(const uint32_t type, reader.Read<uint32_t>());
  if (type > static_cast<uint32_t>(GgufType::kFloat64)) {
    return absl::InvalidArgumentError(absl::StrCat("unknown value type ", type));
  }
  return static_cast<GgufType>(type);
}

}  // namespace

absl::string_view GgufTypeName(GgufType type) {
  constexpr absl::string_view kNames[] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                          "int32",  "float32", "bool",   "string", "array",
                                          "uint64", "int64",   "float64"};
  return kNames[static_cast<uint32_t>(type)];
}

absl::StatusOr<GgufValue> ReadGgufValue(ByteReader& reader) {
  GgufValue value;
  KVEC_ASSIGN_OR_RETURN(value.type, ReadType(reader));
  if (value.type == GgufType::kArray) {
    value.is_array = true;
    KVEC_ASSIGN_OR_RETURN(value.type, ReadType(reader));
    if (value.type == GgufType::kArray) {
      return absl::InvalidArgumentError("is an array of arrays, which is not supported");
    }
    KVEC_ASSIGN_OR_RETURN(value.count, reader.Read<uint64_t>());
    if (value.count > reader.remaining() / MinimumBytes(value.type)) {
      return absl::InvalidArgumentError(
          absl::StrCat("array of ", value.count, " ", GgufTypeName(value.type), " at byte ",
                       reader.position(), " does not fit in the file"));
    }
  }
  if (value.type != GgufType::kString) {
    KVEC_ASSIGN_OR_RETURN(value.bytes, reader.ReadBytes(value.count * MinimumBytes(value.type)));
    return value;
  }
  // Strings vary in length: walk a copy of the reader over them, then take the bytes in one piece.
  ByteReader end = reader;
  for (uint64_t i = 0; i < value.count; ++i) {
    if (absl::StatusOr<absl::string_view> text = end.ReadString(); !text.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("string ", i, " of ", value.count, ": ", text.status().message()));
    }
  }
  KVEC_ASSIGN_OR_RETURN(value.bytes, reader.ReadBytes(end.position() - reader.position()));
  return value;
}

}  // namespace kvec
