#include "kernels/cpu/gather_entries.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/cpu/paged_attention.h"

namespace kvec::kernels::cpu {
namespace {

// An entry as it lies in the arena.
struct StoredEntry {
  std::vector<uint8_t> key;
  std::vector<uint8_t> value;
  int32_t position;

  friend bool operator==(const StoredEntry&, const StoredEntry&) = default;
};

StoredEntry EntryOf(const CpuKvArena& arena, absl::Span<const int32_t> pages, int entry) {
  const int32_t page = pages[static_cast<size_t>(entry / kPageTokens)];
  const int offset = entry % kPageTokens;
  const size_t bytes = KvTypeBytes(arena.spec().type);
  const bool is_int8 = arena.spec().type == KvType::kInt8;
  const auto append = [](const void* from, size_t size, std::vector<uint8_t>& to) {
    const auto* first = static_cast<const uint8_t*>(from);
    to.insert(to.end(), first, first + size);
  };
  StoredEntry stored;
  stored.position = arena.positions(page)[offset];
  for (int dim = 0; dim < arena.spec().head_dim; ++dim) {
    const int key = is_int8 ? dim / 2 * 2 * kPageTokens + 2 * offset + dim % 2
                            : dim * kPageTokens + offset;
    const int value = is_int8 ? offset / 2 * 2 * arena.spec().head_dim + 2 * dim + offset % 2
                              : offset * arena.spec().head_dim + dim;
    append(arena.keys(page) + static_cast<size_t>(key) * bytes, bytes, stored.key);
    append(arena.values(page) + static_cast<size_t>(value) * bytes, bytes, stored.value);
  }
  if (is_int8) {
    append(arena.key_scales(page) + offset, sizeof(uint16_t), stored.key);
    append(arena.value_scales(page) + offset, sizeof(uint16_t), stored.value);
  }
  return stored;
}

std::vector<StoredEntry> EntriesOf(const CpuKvArena& arena, absl::Span<const int32_t> pages,
                                   int count) {
  std::vector<StoredEntry> entries;
  for (int entry = 0; entry < count; ++entry) entries.push_back(EntryOf(arena, pages, entry));
  return entries;
}

// Ascending entries, each kept with the given probability.
std::vector<int32_t> RandomSubset(int count, double probability, std::mt19937& random) {
  std::bernoulli_distribution keep(probability);
  std::vector<int32_t> kept;
  for (int entry = 0; entry < count; ++entry) {
    if (keep(random)) kept.push_back(entry);
  }
  return kept;
}

enum class Target { kInPlace, kOtherPages, kFirstPageElsewhere };

struct GatherCase {
  KvType type;
  int head_dim;
  int num_entries;
  Target target;
};

// Gathers a random subset of every head and compares bit for bit.
void CheckGather(const GatherCase& c, double probability, uint32_t seed) {
  const HeadShape shape{.num_heads = 2, .num_kv_heads = 2, .head_dim = c.head_dim, .group_size = 1};
  const int pages_per_head = c.num_entries / kPageTokens + 1;
  PagedCache cache(shape, c.type, 4 * pages_per_head);
  Matrix qkv = Matrix::Random(c.num_entries, shape.qkv_cols(), seed);
  RunAttention(cache, qkv, {{cache.AddSequence(), c.num_entries, true}});
  // A second sequence's pages are the others.
  cache.AddSequence();
  cache.Grow(1, c.num_entries);
  CpuKvArena& arena = cache.arena();

  std::mt19937 random(seed);
  const std::vector<HeadPages> heads = cache.Heads(0);
  std::vector<std::vector<int32_t>> kept;
  std::vector<std::vector<int32_t>> to_pages;
  std::vector<std::vector<StoredEntry>> before;
  for (int head = 0; head < 2; ++head) {
    kept.push_back(RandomSubset(c.num_entries, probability, random));
    to_pages.push_back(cache.table(c.target == Target::kOtherPages ? 1 : 0, head));
    if (c.target == Target::kFirstPageElsewhere) to_pages[head][0] = cache.table(1, head)[0];
    before.push_back(EntriesOf(arena, cache.table(0, head), c.num_entries));
  }
  std::vector<GatherRequest> requests;
  for (int head = 0; head < 2; ++head) {
    requests.push_back({heads[head], kept[head], to_pages[head].data()});
  }
  ThreadPool pool(2);
  GatherEntries(pool, requests, arena);
  for (int head = 0; head < 2; ++head) {
    for (size_t i = 0; i < kept[head].size(); ++i) {
      ASSERT_EQ(EntryOf(arena, to_pages[head], static_cast<int>(i)), before[head][kept[head][i]])
          << "head " << head << ", entry " << kept[head][i] << " to " << i;
    }
    if (c.target != Target::kInPlace) {  // the first page was another's, too
      const int unwritten =
          c.target == Target::kOtherPages ? c.num_entries : std::min(c.num_entries, kPageTokens);
      for (int entry = 0; entry < unwritten; ++entry) {
        ASSERT_EQ(EntryOf(arena, cache.table(0, head), entry), before[head][entry]);
      }
    }
  }
}

TEST(GatherEntries, MovesKeysValuesAndPositions) {
  uint32_t seed = 0;
  for (KvType type : {KvType::kBF16, KvType::kF16, KvType::kF32, KvType::kInt8}) {
    for (int head_dim : {8, 64, 80}) {
      for (int num_entries : {1, 15, 17, 97, 300}) {
        for (Target target : {Target::kInPlace, Target::kOtherPages, Target::kFirstPageElsewhere}) {
          for (double probability : {0.0, 0.1, 0.5, 0.95, 1.0}) {
            CheckGather({type, head_dim, num_entries, target}, probability, ++seed);
            if (testing::Test::HasFatalFailure()) FAIL() << num_entries << " entries";
          }
        }
      }
    }
  }
}

TEST(GatherEntries, PositionsAreTheOriginalOnes) {
  const HeadShape shape{.num_heads = 1, .num_kv_heads = 1, .head_dim = 8, .group_size = 1};
  PagedCache cache(shape, KvType::kF32, 4);
  Matrix qkv = Matrix::Random(40, shape.qkv_cols(), 1);
  RunAttention(cache, qkv, {{cache.AddSequence(), 40, true}});  // at positions 1000 …
  const std::vector<HeadPages> heads = cache.Heads(0);
  const std::vector<int32_t> kept = {0, 3, 17, 39};
  const GatherRequest request{heads[0], kept, cache.table(0, 0).data()};
  ThreadPool pool(1);
  GatherEntries(pool, {&request, 1}, cache.arena());
  const int32_t* positions = cache.arena().positions(cache.table(0, 0)[0]);
  EXPECT_THAT(std::vector<int32_t>(positions, positions + 4),
              testing::ElementsAre(1000, 1003, 1017, 1039));
}

}  // namespace
}  // namespace kvec::kernels::cpu
