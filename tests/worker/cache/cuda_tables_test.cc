// Page tables in the GPU's memory, on the host simulator: after whatever happens to sequences they
// are those of the host, and nothing is uploaded twice.

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/buddy_allocator.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/cusim/cusim.h"
#include "worker/cache/sequence_cache.h"

namespace kvec::worker::cache {
namespace {

using kernels::HeadPages;
using kernels::kPageTokens;
using kernels::cuda::BuddyAllocator;
using kernels::cuda::CudaDevice;
using kernels::cuda::HeadTable;
using kernels::cuda::PagedBatch;

int PagesOf(const HeadPages& head) { return (head.num_entries + kPageTokens - 1) / kPageTokens; }

// What the model knows of a head's copy.
struct Copy {
  int num_ids = 0;
  int64_t words = 0;  // of its block
};

class CudaTablesTest : public testing::Test {
 protected:
  struct Sequence {
    std::unique_ptr<SequenceCache> cache;
    std::vector<Copy> copies;  // [layer, KV head]
  };

  void SetUp() override {
    cusim::Reset();
    auto device = CudaDevice::Create({});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
  }

  Sequence NewSequence() {
    return {std::make_unique<SequenceCache>(shape_, pool_), std::vector<Copy>(NumTables())};
  }
  size_t NumTables() const {
    return static_cast<size_t>(shape_.num_layers()) * static_cast<size_t>(shape_.num_kv_heads);
  }

  // A Step with one generated token of each sequence, which have room for it already.
  void Prepare(const std::vector<Sequence*>& sequences) {
    std::vector<std::vector<kernels::AttentionSequence>> rows(
        static_cast<size_t>(shape_.num_layers()));
    std::vector<kernels::AttentionBatch> layers;
    for (int layer = 0; layer < shape_.num_layers(); ++layer) {
      auto& own = rows[static_cast<size_t>(layer)];
      for (int i = 0; i < static_cast<int>(sequences.size()); ++i) {
        own.push_back({i, 1, false, sequences[static_cast<size_t>(i)]->cache->Layer(layer)});
      }
      layers.push_back({own, shape_.sliding_windows[static_cast<size_t>(layer)], 1.0f, layer});
    }
    const std::vector<int32_t> positions(sequences.size(), 7);
    const absl::Status status = device_->PrepareStep({layers, positions});
    ASSERT_TRUE(status.ok()) << status;
    CheckTables(sequences);
  }

  void CheckTables(const std::vector<Sequence*>& sequences) {
    const kernels::cuda::StepTables& step = device_->step_tables();
    const auto ids = ToHost(step.Layer(0).page_ids, step.pool().capacity_words());
    const int num_kv_heads = shape_.num_kv_heads;
    for (int layer = 0; layer < shape_.num_layers(); ++layer) {
      const PagedBatch batch = step.Layer(layer);
      const auto rows = ToHost(batch.decode_rows, batch.num_decode_rows);
      ASSERT_EQ(rows.size(), sequences.size());
      for (size_t i = 0; i < rows.size(); ++i) {
        const auto tables = ToHost(batch.tables + rows[i].sequence * num_kv_heads, num_kv_heads);
        for (int head = 0; head < num_kv_heads; ++head) {
          const HeadPages& expected = sequences[i]->cache->Layer(layer)[head];
          const HeadTable& table = tables[static_cast<size_t>(head)];
          ASSERT_EQ(table.num_entries, expected.num_entries);
          for (int page = 0; page < PagesOf(expected); ++page) {
            ASSERT_EQ(ids[static_cast<size_t>(table.first_page + page)], expected.pages[page]);
          }
        }
      }
    }
  }

  // How many ids the next Step has to upload of the sequence.
  int64_t TakeNewIds(Sequence& sequence) {
    int64_t new_ids = 0;
    for (size_t i = 0; i < NumTables(); ++i) {
      const int num_kv_heads = shape_.num_kv_heads;
      const int layer = static_cast<int>(i) / num_kv_heads;
      const int head = static_cast<int>(i) % num_kv_heads;
      const int num_ids = PagesOf(sequence.cache->Layer(layer)[head]);
      Copy& copy = sequence.copies[i];
      if (copy.words == 0 || num_ids > copy.words) {
        copy = {0, BuddyAllocator::BlockWords(BuddyAllocator::OrderFor(num_ids))};
      }
      new_ids += num_ids - copy.num_ids;
      copy.num_ids = num_ids;
    }
    return new_ids;
  }

  void Evict(Sequence& sequence, int layer, int one_in) {
    std::vector<std::vector<int32_t>> kept(static_cast<size_t>(shape_.num_kv_heads));
    for (size_t head = 0; head < kept.size(); ++head) {
      for (int entry = 0; entry < sequence.cache->Layer(layer)[head].num_entries; ++entry) {
        if (random_() % static_cast<unsigned>(one_in) == 0) kept[head].push_back(entry);
      }
      const size_t index = static_cast<size_t>(layer * shape_.num_kv_heads) + head;
      sequence.copies[index] = {};
    }
    ASSERT_TRUE(sequence.cache->BeginEviction(layer, kept).ok());
    sequence.cache->FinishEviction(layer);
  }

  template <typename T>
  std::vector<T> ToHost(const T* from, int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    const absl::Status status = device_->Download(
        from, {reinterpret_cast<uint8_t*>(values.data()), values.size() * sizeof(T)});
    EXPECT_TRUE(status.ok()) << status;
    return values;
  }

  const CacheShape shape_{.num_kv_heads = 3, .sliding_windows = {0, 40, 0}};
  PagePool pool_{100000};
  std::unique_ptr<CudaDevice> device_;
  std::mt19937 random_{11};
};

TEST_F(CudaTablesTest, ADecodeStepUploadsIdsAtPageBoundariesOnly) {
  Sequence sequence = NewSequence();
  ASSERT_TRUE(sequence.cache->Append(33).ok());
  Prepare({&sequence});
  const kernels::cuda::StepTables& step = device_->step_tables();
  EXPECT_EQ(step.pool().num_uploaded_ids(), 9 * 3);
  for (int entries = 34; entries <= 128; ++entries) {
    const int64_t ids_before = step.pool().num_uploaded_ids();
    const int64_t words_before = step.num_uploaded_words();
    ASSERT_TRUE(sequence.cache->Append(1).ok());
    Prepare({&sequence});
    EXPECT_EQ(step.pool().num_uploaded_ids() - ids_before, entries % 16 == 1 ? 9 : 0);
    // The row, its position, and each head's begin and number of entries.
    EXPECT_EQ(step.num_uploaded_words() - words_before, 3 + 1 + 9 * 2);
  }
}

TEST_F(CudaTablesTest, AreTheHostsWhateverHappensToSequences) {
  std::vector<Sequence> sequences;
  const kernels::cuda::StepTables& step = device_->step_tables();
  for (int round = 0; round < 400; ++round) {
    const size_t pick = sequences.empty() ? 0 : random_() % sequences.size();
    const unsigned action = random_() % 16;
    if (sequences.size() < 2 || (action == 0 && sequences.size() < 8)) {
      sequences.push_back(NewSequence());
      ASSERT_TRUE(sequences.back().cache->Append(1 + static_cast<int>(random_() % 300)).ok());
    } else if (action == 1) {
      sequences.erase(sequences.begin() + static_cast<int64_t>(pick));
    } else if (action == 2) {
      std::vector<kernels::PageCopy> copies;
      auto child = sequences[pick].cache->Fork(copies);
      ASSERT_TRUE(child.ok()) << child.status();
      sequences.push_back({*std::move(child), std::vector<Copy>(NumTables())});
    } else if (action == 3) {
      Evict(sequences[pick], random_() % 2 == 0 ? 0 : 2, 1 + static_cast<int>(random_() % 4));
    }
    std::vector<Sequence*> chosen;
    int64_t new_ids = 0;
    for (Sequence& sequence : sequences) {
      if (random_() % 4 == 0) continue;
      ASSERT_TRUE(sequence.cache->Append(1 + static_cast<int>(random_() % 20)).ok());
      chosen.push_back(&sequence);
      new_ids += TakeNewIds(sequence);
    }
    const int64_t ids_before = step.pool().num_uploaded_ids();
    if (!chosen.empty()) Prepare(chosen);
    ASSERT_EQ(step.pool().num_uploaded_ids() - ids_before, new_ids);
    for (Sequence* sequence : chosen) sequence->cache->ReleaseSlidOut();
    int64_t words = 0;
    for (const Sequence& sequence : sequences) {
      for (const Copy& copy : sequence.copies) words += copy.words;
    }
    ASSERT_EQ(step.pool().used_words(), words);
  }
  sequences.clear();
  EXPECT_EQ(step.pool().used_words(), 0);
}

TEST_F(CudaTablesTest, GrowWithoutLosingAnyTable) {
  std::vector<Sequence> sequences;
  std::vector<Sequence*> all;
  for (int i = 0; i < 40; ++i) {
    sequences.push_back(NewSequence());
    ASSERT_TRUE(sequences.back().cache->Append(3000).ok());
  }
  const kernels::cuda::StepTables& step = device_->step_tables();
  for (Sequence& sequence : sequences) {
    all.push_back(&sequence);
    ASSERT_TRUE(sequence.cache->Append(1).ok());
    Prepare(all);
  }
  EXPECT_GT(step.pool().capacity_words(), 65536);
  EXPECT_EQ(step.pool().num_uploaded_ids(), 40 * 9 * 188);
}

}  // namespace
}  // namespace kvec::worker::cache
