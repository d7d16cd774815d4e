#ifndef KVEC_COMMON_MODEL_GGUF_VALUE_H_
#define KVEC_COMMON_MODEL_GGUF_VALUE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/model/byte_reader.h"

namespace kvec {

// The numbers are those of the file format.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12
};

absl::string_view GgufTypeName(GgufType type);

// A metadata value as it lies in the file, checked to lie in it wholly. A view of the file.
struct GgufValue {
  GgufType type = GgufType::kUint8;  // of the elements, for an array; never kArray
  bool is_array = false;
  uint64_t count = 1;               // elements
  absl::Span<const uint8_t> bytes;  // the encoded elements
};

// Reads a type and a value. INVALID_ARGUMENT for an unknown type, an array of arrays, and anything
// that does not fit in the file.
absl::StatusOr<GgufValue> ReadGgufValue(ByteReader& reader);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_GGUF_VALUE_H_
