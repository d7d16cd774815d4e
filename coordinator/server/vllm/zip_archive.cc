#include "coordinator/server/vllm/zip_archive.h"

#include <array>
#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace kvec::coordinator::server::vllm {
namespace {

constexpr uint16_t kVersion = 20;  // that a reader needs, for all of this: 2.0
constexpr uint16_t kFirstDay =
    (1 << 5) | 1;  // 1 January 1980, so that equal files give equal bytes

uint32_t Crc32(absl::string_view bytes) {
  static const std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table;
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0xEDB88320 : 0);
      table[i] = value;
    }
    return table;
  }();
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc = kTable[(crc ^ static_cast<uint8_t>(byte)) & 0xFF] ^ (crc >> 8);
  }
  return ~crc;
}

void Put16(uint16_t value, std::string& out) {
  out.push_back(static_cast<char>(value & 0xFF));
  out.push_back(static_cast<char>(value >> 8));
}

void Put32(size_t value, std::string& out) {
  Put16(static_cast<uint16_t>(value & 0xFFFF), out);
  Put16(static_cast<uint16_t>(value >> 16), out);
}

// What a file's own header and its entry in the directory have alike.
std::string CommonHeader(const ArchiveFile& file) {
  std::string out;
  Put16(kVersion, out);
  Put16(0, out);  // flags
  Put16(0, out);  // method: stored
  Put16(0, out);  // midnight
  Put16(kFirstDay, out);
  Put32(Crc32(file.content), out);
  Put32(file.content.size(), out);  // compressed
  Put32(file.content.size(), out);
  Put16(static_cast<uint16_t>(file.name.size()), out);
  Put16(0, out);  // extra fields
  return out;
}

}  // namespace

absl::StatusOr<std::string> ZipArchive(absl::Span<const ArchiveFile> files) {
  std::string archive;
  std::string directory;
  for (const ArchiveFile& file : files) {
    const std::string header = CommonHeader(file);
    const size_t offset = archive.size();
    absl::StrAppend(&archive, "PK\x03\x04", header, file.name, file.content);
    if (archive.size() > std::numeric_limits<uint32_t>::max() / 2) {
      return absl::OutOfRangeError(
          absl::StrCat(file.name, ": ends at byte ", archive.size(), " of a zip archive"));
    }
    absl::StrAppend(&directory, "PK\x01\x02");
    Put16(kVersion, directory);  // that made it
    absl::StrAppend(&directory, header);
    Put16(0, directory);  // comment
    Put16(0, directory);  // disk
    Put16(0, directory);  // internal attributes
    Put32(0, directory);  // external attributes
    Put32(offset, directory);
    absl::StrAppend(&directory, file.name);
  }
  const size_t directory_offset = archive.size();
  absl::StrAppend(&archive, directory, "PK\x05\x06");
  Put16(0, archive);  // this disk
  Put16(0, archive);  // the directory's
  Put16(static_cast<uint16_t>(files.size()), archive);
  Put16(static_cast<uint16_t>(files.size()), archive);
  Put32(directory.size(), archive);
  Put32(directory_offset, archive);
  Put16(0, archive);  // comment
  return archive;
}

}  // namespace kvec::coordinator::server::vllm
