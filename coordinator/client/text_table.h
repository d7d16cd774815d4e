#ifndef KVEC_COORDINATOR_CLIENT_TEXT_TABLE_H_
#define KVEC_COORDINATOR_CLIENT_TEXT_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace kvec::coordinator::client {

// Rows of cells in columns as wide as their widest cell, two spaces apart. The first column is
// aligned to the left, all others (numbers) to the right.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);

// "1.5 GiB"
std::string FormatBytes(uint64_t bytes);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_TEXT_TABLE_H_
