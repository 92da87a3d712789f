package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// bucket is a store in object storage with S3's protocol.
type bucket struct {
	client       *minio.Client
	name, prefix string
}

// openS3 opens s3://bucket/prefix. Endpoint, region and keys come from the environment, by the names that every S3 tool reads;
// ?endpoint=URL and ?region=NAME go over it.
func openS3(where string, getenv func(string) string) (Store, error) {
	u, err := url.Parse(where)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%s: it should look like s3://bucket/prefix", where)
	}
	first := func(names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	endpoint, region := u.Query().Get("endpoint"), u.Query().Get("region")
	if endpoint == "" {
		endpoint = first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
	}
	if region == "" {
		region = first("AWS_REGION", "AWS_DEFAULT_REGION")
	}
	if region == "" {
		region = "us-east-1"
	}
	if endpoint == "" {
		endpoint = "https://s3." + region + ".amazonaws.com"
	}
	e, err := url.Parse(endpoint)
	if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" {
		return nil, fmt.Errorf("the endpoint %q of %s should look like https://host:port", endpoint, where)
	}
	creds := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{}})
	if id := getenv("AWS_ACCESS_KEY_ID"); id != "" {
		creds = credentials.NewStaticV4(id, getenv("AWS_SECRET_ACCESS_KEY"), getenv("AWS_SESSION_TOKEN"))
	}
	c, err := minio.New(e.Host, &minio.Options{Creds: creds, Secure: e.Scheme == "https", Region: region, BucketLookup: minio.BucketLookupAuto})
	if err != nil {
		return nil, err
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" {
		prefix += "/"
	}
	return &bucket{client: c, name: u.Host, prefix: prefix}, nil
}

func (b *bucket) String() string { return "s3://" + b.name + "/" + b.prefix }

func (b *bucket) fail(err error) error {
	if err == nil {
		return nil
	}
	switch r := minio.ToErrorResponse(err); r.Code {
	case "NoSuchKey":
		return fmt.Errorf("%s: %w", b, fs.ErrNotExist)
	case "NoSuchBucket":
		return fmt.Errorf("the bucket %s does not exist; make it first", b.name)
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return fmt.Errorf("%s refuses these credentials (%s); they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", b, r.Code)
	}
	return fmt.Errorf("%s: %w", b, err)
}

// Put implements Store. An object appears when it is whole.
func (b *bucket) Put(ctx context.Context, name string, body []byte) error {
	_, err := b.client.PutObject(ctx, b.name, b.prefix+name, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{DisableMultipart: len(body) < 64<<20, SendContentMd5: true})
	return b.fail(err)
}

// Get implements Store.
func (b *bucket) Get(ctx context.Context, name string, max int64) ([]byte, error) {
	o, err := b.client.GetObject(ctx, b.name, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.fail(err)
	}
	body, err := io.ReadAll(io.LimitReader(o, max+1))
	if err = errors.Join(b.fail(err), o.Close()); err != nil {
		return nil, err
	}
	if int64(len(body)) > max {
		return nil, fmt.Errorf("%s%s has more than the %d bytes that can be", b, name, max)
	}
	return body, nil
}

// Size implements Store.
func (b *bucket) Size(ctx context.Context, name string) (int64, error) {
	info, err := b.client.StatObject(ctx, b.name, b.prefix+name, minio.StatObjectOptions{})
	return info.Size, b.fail(err)
}

// List implements Store.
func (b *bucket) List(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var names []string
	for o := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, b.fail(o.Err)
		}
		names = append(names, strings.TrimPrefix(o.Key, b.prefix))
	}
	return names, nil
}

// Remove implements Store.
func (b *bucket) Remove(ctx context.Context, name string) error {
	return b.fail(b.client.RemoveObject(ctx, b.name, b.prefix+name, minio.RemoveObjectOptions{}))
}
