#ifndef KVEC_TESTS_CUSIM_PRODUCTS_H_
#define KVEC_TESTS_CUSIM_PRODUCTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/cusim/call_site.h"

namespace kvec::cusim {

// A product that a warpgroup has begun, wgmma.mma_async, as one of its threads did.
struct Product {
  int columns = 0;  // of D and B
  bool is_bf16 = false;
  bool adds = false;          // to the old D
  bool b_along_n = false;     // in shared memory; else along K
  uint64_t a_descriptor = 0;  // without a_words
  uint64_t b_descriptor = 0;
  const uint32_t* a_words = nullptr;  // the thread's part of A
  uint32_t a_begun[4] = {};           // what they were when the product began
  uint64_t shared_begun = 0;          // the same of A and B in shared memory, as a checksum
  float* d = nullptr;                 // the thread's part of D
  size_t commit = 0;                  // the one that it belongs to
  CallSite at = {};
};

// What a thread's part of D will be. Meanwhile the thread sees NaN there.
struct PendingSum {
  float* d = nullptr;
  std::vector<float> numbers;
};

// The products that a thread has begun and not yet waited for.
struct Products {
  std::vector<Product> begun;
  std::vector<PendingSum> sums;
  size_t num_commits = 0;
  bool fenced = false;  // since the thread could last touch registers of a product
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_PRODUCTS_H_
