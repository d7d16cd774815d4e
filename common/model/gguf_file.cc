#include "common/model/gguf_file.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/model/byte_reader.h"
#include "common/model/error_text.h"
#include "common/model/tensor_directory.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint32_t kMaxDimensions = 4;

// The fewest bytes an entry can take bound how many the rest of the file has room for.
constexpr uint64_t kMinMetadataBytes = 8 + 4 + 1;        // key length, type, value
constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;  // name length, n_dims, dim, type, offset

struct TensorEntry {
  FileTensor tensor;    // without data
  uint64_t offset = 0;  // from the start of the data section
};

absl::StatusOr<TensorType> TensorTypeOf(uint32_t ggml_type) {
  switch (ggml_type) {
    case 0:
      return TensorType::kF32;
    case 1:
      return TensorType::kF16;
    case 2:
      return TensorType::kQ4_0;
    case 3:
      return TensorType::kQ4_1;
    case 6:
      return TensorType::kQ5_0;
    case 7:
      return TensorType::kQ5_1;
    case 8:
      return TensorType::kQ8_0;
    case 12:
      return TensorType::kQ4_K;
    case 13:
      return TensorType::kQ5_K;
    case 14:
      return TensorType::kQ6_K;
    case 30:
      return TensorType::kBF16;
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "ggml type ", ggml_type, " is not supported; known: ", KnownTensorTypeNames()));
  }
}

// Reads the dimensions, innermost first as in the file, into a shape with the outermost first.
absl::StatusOr<std::vector<int64_t>> ReadShape(ByteReader& reader) {
  KVEC_ASSIGN_OR_RETURN(const uint32_t num_dims, reader.Read<uint32_t>());
  if (num_dims < 1 || num_dims > kMaxDimensions) {
    return absl::InvalidArgumentError(
        absl::StrCat("n_dims: is ", num_dims, ", must be in 1 … ", kMaxDimensions));
  }
  std::vector<int64_t> shape(num_dims);
  for (uint32_t i = 0; i < num_dims; ++i) {
    KVEC_ASSIGN_OR_RETURN(shape[num_dims - 1 - i], reader.Read<int64_t>());
  }
  return shape;
}

absl::StatusOr<TensorEntry> ReadTensorEntry(ByteReader& reader) {
  TensorEntry entry;
  KVEC_ASSIGN_OR_RETURN(const absl::string_view name, reader.ReadString());
  entry.tensor.name = std::string(name);
  const std::string context = absl::StrCat("tensor ", Quoted(name));

  absl::StatusOr<std::vector<int64_t>> shape = ReadShape(reader);
  if (!shape.ok()) return Annotate(shape.status(), context);
  entry.tensor.shape = *std::move(shape);

  absl::StatusOr<uint32_t> ggml_type = reader.Read<uint32_t>();
  if (!ggml_type.ok()) return Annotate(ggml_type.status(), context);
  absl::StatusOr<TensorType> type = TensorTypeOf(*ggml_type);
  if (!type.ok()) return Annotate(type.status(), context);
  entry.tensor.type = *type;

  absl::StatusOr<uint64_t> offset = reader.Read<uint64_t>();
  if (!offset.ok()) return Annotate(offset.status(), context);
  entry.offset = *offset;
  return entry;
}

absl::StatusOr<uint64_t> ReadCount(ByteReader& reader, absl::string_view field,
                                   uint64_t min_entry_bytes) {
  absl::StatusOr<uint64_t> count = reader.Read<uint64_t>();
  if (!count.ok()) return Annotate(count.status(), field);
  if (const uint64_t room = reader.remaining() / min_entry_bytes; *count > room) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": is ", *count, ", file has room for ", room, " at most"));
  }
  return *count;
}

absl::Status CheckMagicAndVersion(ByteReader& reader) {
  KVEC_ASSIGN_OR_RETURN(const uint32_t magic, reader.Read<uint32_t>());
  if (magic != kMagic) {
    return absl::InvalidArgumentError(
        absl::StrCat("magic: is 0x", absl::Hex(magic, absl::kZeroPad8), ", not a GGUF file"));
  }
  KVEC_ASSIGN_OR_RETURN(const uint32_t version, reader.Read<uint32_t>());
  if (version == 2 || version == 3) return absl::OkStatus();
  const bool big_endian = (version & 0xFFFF) == 0;
  return absl::InvalidArgumentError(absl::StrCat("version: is ", version,
                                                 big_endian ? ", a big-endian file" : "",
                                                 "; known: 2, 3 (little endian)"));
}

absl::StatusOr<GgufMetadata> ReadMetadata(ByteReader& reader, uint64_t count) {
  GgufMetadata metadata;
  for (uint64_t i = 0; i < count; ++i) {
    absl::StatusOr<absl::string_view> key = reader.ReadString();
    if (!key.ok()) return Annotate(key.status(), absl::StrCat("metadata key ", i));
    absl::StatusOr<GgufValue> value = ReadGgufValue(reader);
    if (!value.ok()) return Annotate(value.status(), absl::StrCat("metadata key ", Quoted(*key)));
    KVEC_RETURN_IF_ERROR(metadata.Add(*key, *value));
  }
  return metadata;
}

absl::StatusOr<uint64_t> Alignment(const GgufMetadata& metadata) {
  constexpr absl::string_view kKey = "general.alignment";
  const GgufValue* value = metadata.Find(kKey);
  if (value == nullptr) return kDefaultAlignment;
  if (value->is_array || value->type != GgufType::kUint32) {
    return absl::InvalidArgumentError(absl::StrCat(kKey, ": is of type ",
                                                   value->is_array ? "array of " : "",
                                                   GgufTypeName(value->type), ", must be uint32"));
  }
  KVEC_ASSIGN_OR_RETURN(const int64_t alignment, metadata.Int(kKey, 0, UINT32_MAX));
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(kKey, ": is ", alignment, ", must be a power of two"));
  }
  return static_cast<uint64_t>(alignment);
}

}  // namespace

absl::StatusOr<GgufFile> GgufFile::Parse(absl::Span<const uint8_t> bytes) {
  GgufFile file;
  ByteReader reader(bytes);
  KVEC_RETURN_IF_ERROR(CheckMagicAndVersion(reader));
  KVEC_ASSIGN_OR_RETURN(const uint64_t num_tensors,
                        ReadCount(reader, "n_tensors", kMinTensorBytes));
  KVEC_ASSIGN_OR_RETURN(const uint64_t num_metadata, ReadCount(reader, "n_kv", kMinMetadataBytes));
  KVEC_ASSIGN_OR_RETURN(file.metadata_, ReadMetadata(reader, num_metadata));
  KVEC_ASSIGN_OR_RETURN(const uint64_t alignment, Alignment(file.metadata_));

  std::vector<uint64_t> offsets;
  for (uint64_t i = 0; i < num_tensors; ++i) {
    absl::StatusOr<TensorEntry> entry = ReadTensorEntry(reader);
    if (!entry.ok()) return Annotate(entry.status(), absl::StrCat("tensor entry ", i));
    file.tensors_.push_back(std::move(entry->tensor));
    offsets.push_back(entry->offset);
  }
  const uint64_t padding = (alignment - reader.position() % alignment) % alignment;
  const uint64_t data_start = std::min<uint64_t>(reader.position() + padding, bytes.size());
  const absl::Span<const uint8_t> data = bytes.subspan(data_start);
  for (size_t i = 0; i < offsets.size(); ++i) {
    if (offsets[i] % alignment != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", Quoted(file.tensors_[i].name), ": offset ", offsets[i],
                       " is not a multiple of general.alignment ", alignment));
    }
    KVEC_RETURN_IF_ERROR(AttachData(file.tensors_[i], data, offsets[i]));
  }
  KVEC_RETURN_IF_ERROR(CheckDirectory(file.tensors_));
  return file;
}

}  // namespace kvec
