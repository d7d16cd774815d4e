#include "worker/comm/peer_address.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace kvec::worker::comm {
namespace {

constexpr absl::string_view kMagic("KVEC\x01", 5);  // the last byte is the format's version
constexpr size_t kMaxBytes = 4096;                  // UCX's addresses have about 100

// magic, host_id, nonce, both lengths, both addresses, checksum of all before it.
constexpr size_t kHeaderBytes = 5 + 8 + 8 + 2 + 2;
constexpr size_t kChecksumBytes = 8;

template <typename T>
void Append(T value, std::string& bytes) {
  char raw[sizeof(T)];
  std::memcpy(raw, &value, sizeof(T));
  bytes.append(raw, sizeof(T));
}

template <typename T>
T Take(absl::string_view& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
  return value;
}

}  // namespace

uint64_t HashBytes(absl::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3;
  return hash;
}

uint64_t HostId() {
  std::string identity;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> identity;
  for (const char* path : {"/proc/self/ns/pid", "/dev/shm"}) {
    struct stat status = {};
    if (stat(path, &status) != 0) continue;
    absl::StrAppend(&identity, " ", status.st_dev, ":", status.st_ino);
  }
  return HashBytes(identity);
}

int NumOnThisHost(absl::Span<const std::string> addresses) {
  const uint64_t host_id = HostId();
  int count = 0;
  for (const std::string& bytes : addresses) {
    const absl::StatusOr<PeerAddress> address = ParsePeerAddress(bytes);
    if (address.ok() && address->host_id == host_id) ++count;
  }
  return std::max(count, 1);
}

std::string PeerAddress::Encode() const {
  std::string bytes(kMagic);
  Append(host_id, bytes);
  Append(nonce, bytes);
  Append(static_cast<uint16_t>(shared_memory.size()), bytes);
  Append(static_cast<uint16_t>(tcp.size()), bytes);
  bytes += shared_memory;
  bytes += tcp;
  Append(HashBytes(bytes), bytes);
  return bytes;
}

absl::StatusOr<PeerAddress> ParsePeerAddress(absl::string_view bytes) {
  const size_t num_bytes = bytes.size();
  if (num_bytes < kHeaderBytes + kChecksumBytes || num_bytes > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat("has ", num_bytes, " bytes, an address has ",
                                                   kHeaderBytes + kChecksumBytes, " to ",
                                                   kMaxBytes));
  }
  if (bytes.substr(0, kMagic.size()) != kMagic) {
    return absl::InvalidArgumentError("is no address of this version");
  }
  absl::string_view checksum = bytes.substr(num_bytes - kChecksumBytes);
  if (Take<uint64_t>(checksum) != HashBytes(bytes.substr(0, num_bytes - kChecksumBytes))) {
    return absl::InvalidArgumentError("is garbled: its checksum does not fit");
  }
  bytes.remove_prefix(kMagic.size());
  PeerAddress address;
  address.host_id = Take<uint64_t>(bytes);
  address.nonce = Take<uint64_t>(bytes);
  const size_t shared_memory_bytes = Take<uint16_t>(bytes);
  const size_t tcp_bytes = Take<uint16_t>(bytes);
  if (kHeaderBytes + shared_memory_bytes + tcp_bytes + kChecksumBytes != num_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("has ", num_bytes, " bytes, but parts of ",
                                                   shared_memory_bytes, " and ", tcp_bytes));
  }
  address.shared_memory = std::string(bytes.substr(0, shared_memory_bytes));
  address.tcp = std::string(bytes.substr(shared_memory_bytes, tcp_bytes));
  return address;
}

}  // namespace kvec::worker::comm
