#ifndef KVEC_TESTS_WORKER_COMM_RANK_DATA_H_
#define KVEC_TESTS_WORKER_COMM_RANK_DATA_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace kvec::worker::comm {

// What rank `rank` brings to round `round`: a test can make any rank's.
inline std::vector<float> RandomFloats(int rank, int round, size_t count) {
  std::mt19937 random(static_cast<uint32_t>(rank * 7919 + round));
  std::normal_distribution<float> normal(0.0f, 100.0f);
  std::vector<float> data(count);
  for (float& value : data) value = normal(random);
  return data;
}

inline std::vector<uint8_t> RandomBytes(int rank, int round, size_t count) {
  std::mt19937 random(static_cast<uint32_t>(rank * 104729 + round));
  std::vector<uint8_t> data(count);
  for (uint8_t& value : data) value = static_cast<uint8_t>(random());
  return data;
}

}  // namespace kvec::worker::comm

#endif  // KVEC_TESTS_WORKER_COMM_RANK_DATA_H_
