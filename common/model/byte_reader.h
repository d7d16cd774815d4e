#ifndef KVEC_COMMON_MODEL_BYTE_READER_H_
#define KVEC_COMMON_MODEL_BYTE_READER_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kvec {

// A cursor over the bytes of a little-endian file. Every step is checked against the end; after an
// error the cursor stays where it was. The bytes must outlive it.
class ByteReader {
 public:
  explicit ByteReader(absl::Span<const uint8_t> bytes) : bytes_(bytes) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  template <typename T>
  absl::StatusOr<T> Read() {
    static_assert(std::is_arithmetic_v<T>);
    absl::StatusOr<absl::Span<const uint8_t>> bytes = ReadBytes(sizeof(T));
    if (!bytes.ok()) return bytes.status();
    T value;
    std::memcpy(&value, bytes->data(), sizeof(T));
    return value;
  }

  absl::StatusOr<absl::Span<const uint8_t>> ReadBytes(uint64_t count) {
    if (count > remaining()) {
      return absl::InvalidArgumentError(absl::StrCat("needs ", count, " bytes at byte ", position_,
                                                     ", file has ", bytes_.size()));
    }
    const absl::Span<const uint8_t> result = bytes_.subspan(position_, count);
    position_ += count;
    return result;
  }

  // GGUF's string: a 64-bit length, then the bytes.
  absl::StatusOr<absl::string_view> ReadString() {
    const uint64_t start = position_;
    absl::StatusOr<uint64_t> length = Read<uint64_t>();
    if (!length.ok()) return length.status();
    absl::StatusOr<absl::Span<const uint8_t>> bytes = ReadBytes(*length);
    if (!bytes.ok()) {
      position_ = start;
      return bytes.status();
    }
    return absl::string_view(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  }

 private:
  absl::Span<const uint8_t> bytes_;
  uint64_t position_ = 0;
};

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_BYTE_READER_H_
