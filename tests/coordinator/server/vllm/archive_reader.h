#ifndef KVEC_TESTS_COORDINATOR_SERVER_VLLM_ARCHIVE_READER_H_
#define KVEC_TESTS_COORDINATOR_SERVER_VLLM_ARCHIVE_READER_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server::vllm {

inline uint32_t Read(absl::string_view bytes, size_t offset, int size) {
  uint32_t value = 0;
  for (int i = 0; i < size; ++i) {
    value |= uint32_t{static_cast<uint8_t>(bytes.at(offset + i))} << (8 * i);
  }
  return value;
}

// Bit by bit, as the format's description has it.
inline uint32_t SlowCrc32(absl::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? (crc >> 1) ^ 0xEDB88320 : crc >> 1;
  }
  return crc ^ 0xFFFFFFFF;
}

// The stored files of a zip archive by name, found through its directory as unzip does.
inline std::map<std::string, std::string> ReadArchive(absl::string_view archive) {
  std::map<std::string, std::string> files;
  const size_t end = archive.rfind("PK\x05\x06");
  if (end == absl::string_view::npos) {
    ADD_FAILURE() << "no end of a directory";
    return files;
  }
  const uint32_t num_files = Read(archive, end + 10, 2);
  size_t entry = Read(archive, end + 16, 4);
  EXPECT_EQ(entry + Read(archive, end + 12, 4), end);
  for (uint32_t i = 0; i < num_files; ++i) {
    EXPECT_EQ(archive.substr(entry, 4), "PK\x01\x02");
    const size_t name_size = Read(archive, entry + 28, 2);
    const size_t header = Read(archive, entry + 42, 4);
    EXPECT_EQ(archive.substr(header, 4), "PK\x03\x04");
    // The directory's fields, version to length of the name, are the header's.
    EXPECT_EQ(archive.substr(entry + 6, 24), archive.substr(header + 4, 24));
    const size_t begin = header + 30 + name_size;
    const std::string content(archive.substr(begin, Read(archive, header + 22, 4)));
    EXPECT_EQ(Read(archive, header + 14, 4), SlowCrc32(content));
    files[std::string(archive.substr(header + 30, name_size))] = content;
    entry += 46 + name_size;
  }
  EXPECT_EQ(entry, end);
  return files;
}

}  // namespace kvec::coordinator::server::vllm

#endif  // KVEC_TESTS_COORDINATOR_SERVER_VLLM_ARCHIVE_READER_H_
